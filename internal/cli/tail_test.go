package cli

import (
	"fmt"
	"testing"

	"github.com/edupulse-live/pulse"
)

// TestReadTail compares with reading everything and keeping the end.
func TestReadTail(t *testing.T) {
	a := openMemory(t, nil)
	const n = 300
	for i := 1; i <= n; i++ {
		name := "a.common"
		if i%97 == 0 {
			name = "a.rare"
		}
		if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: name, Data: []byte(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []pulse.Query{{}, {Name: "a.rare"}, {Name: "a.none"}, {After: 290}, {After: 290, Name: "a.rare"}, {After: n}, {After: 2 * n}} {
		var all []string
		for e, err := range a.Bus.Log(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(e.Data))
		}
		for _, want := range []int{1, 2, 3, 10, 299, 300, 301, 1 << 62} {
			envs, next, err := readTail(t.Context(), a.Store, q, want)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range envs {
				got = append(got, string(e.Data))
			}
			if expect := all[max(0, len(all)-want):]; fmt.Sprint(got) != fmt.Sprint(expect) {
				t.Errorf("the last %d of %+v are %v, want %v", want, q, got, expect)
			}
			if next != max(q.After, n) {
				t.Errorf("reading goes on after %d", next)
			}
		}
	}
}

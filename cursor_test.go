package pulse_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
)

func TestCursorText(t *testing.T) {
	full := pulse.Cursor{Epoch: 2, Position: 1 << 40, Commitment: [32]byte{0xab, 31: 1}}
	for _, c := range []pulse.Cursor{{Epoch: 1}, {Epoch: 1, Position: 42}, full} {
		var back pulse.Cursor
		data, err := json.Marshal(c)
		if err == nil {
			err = json.Unmarshal(data, &back)
		}
		if err != nil || back != c {
			t.Errorf("%s came back as %s, %v", data, back, err)
		}
	}
	for _, bad := range []string{
		"", "1", "1/2", "1/2/3", "0/2/", "1/-2/", "01/2/", "1/02/", "+1/2/", "1/2/AB", "1/2/" + strings.Repeat("ab", 31),
		"1/2/" + strings.Repeat("ab", 33), "1/2/" + strings.Repeat("AB", 32), "1/2/" + strings.Repeat("00", 32), "1/2//", " 1/2/", "1/9223372036854775808/",
	} {
		c := full
		if err := c.UnmarshalText([]byte(bad)); !errors.Is(err, pulse.ErrInvalid) || c != full {
			t.Errorf("%q: %v, and the cursor is %s", bad, err, c)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("1/42/")
	f.Add("1/42/" + strings.Repeat("ab", 32))
	f.Add("0/0/0")
	f.Fuzz(func(t *testing.T, text string) {
		var c pulse.Cursor
		if err := c.UnmarshalText([]byte(text)); err != nil {
			if !errors.Is(err, pulse.ErrInvalid) || c != (pulse.Cursor{}) {
				t.Errorf("%q: %v, %s", text, err, c)
			}
			return
		}
		if c.String() != text || c.Epoch < 1 || c.Position < 0 {
			t.Errorf("%q was read as %s", text, c)
		}
	})
}

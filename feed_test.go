package pulse_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestAllMessagesExpired: a broker that has nothing any more says nothing of what it had. The log has it.
func TestAllMessagesExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, nil)
		if err := r.Pause(t.Context(), "index", "away"); err != nil {
			t.Fatal(err)
		}
		stop := r.running(t)
		for i := range 300 {
			emit(t, r.Bus, lesson{"a", i})
		}
		time.Sleep(10 * time.Second)
		r.broker.Expire("memory", 300)
		if err := r.Resume(t.Context(), "index"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		emit(t, r.Bus, lesson{"a", 300})
		drain(t, r.Bus)
		stop()
		if got := r.got.of("a"); len(got) != 301 || !slices.IsSorted(got) {
			t.Errorf("%d of 301 handled, in order: %t", len(got), slices.IsSorted(got))
		}
	})
}

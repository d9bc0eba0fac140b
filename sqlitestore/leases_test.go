package sqlitestore

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
)

// TestLeasesStandStill: a lease has as long to go after a transaction as before it, whose it is and however the transaction ends. One
// that had run out, or was given back, stays so.
func TestLeasesStandStill(t *testing.T) {
	refused := errors.New("refused")
	for name, end := range map[string]func(cancel context.CancelFunc) error{
		"commit":  func(context.CancelFunc) error { return nil },
		"error":   func(context.CancelFunc) error { return refused },
		"panic":   func(context.CancelFunc) error { panic(refused) },
		"goodbye": func(cancel context.CancelFunc) error { cancel(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), filepath.Join(t.TempDir(), "log.db"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			clock := time.Now()
			s.now = func() time.Time { return clock }
			take := func(name, holder string, ttl time.Duration) error {
				_, err := s.Acquire(t.Context(), pulse.Lease{Name: name, Holder: holder}, ttl)
				return err
			}
			for _, name := range []string{"mailer", "search", "expired", "released"} {
				if _, err := s.Register(t.Context(), pulse.Registration{Name: name, Start: pulse.Beginning}); err != nil {
					t.Fatal(err)
				}
			}
			released, err := s.Acquire(t.Context(), pulse.Lease{Name: "released", Holder: "a"}, time.Minute)
			if err := errors.Join(err, s.Release(t.Context(), released), take("expired", "a", time.Second)); err != nil {
				t.Fatal(err)
			}
			clock = clock.Add(time.Second)
			if err := errors.Join(take("mailer", "a", 5*time.Second), take("search", "b", 5*time.Second)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			func() {
				defer func() { _ = recover() }()
				_ = s.Transact(ctx, func(context.Context, pulse.Tx) error {
					clock = clock.Add(50 * time.Second)
					return end(cancel)
				})
			}()
			for _, name := range []string{"expired", "released"} {
				if err := take(name, "c", time.Second); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			clock = clock.Add(5*time.Second - time.Microsecond)
			for _, name := range []string{"mailer", "search"} {
				if err := take(name, "c", time.Second); !errors.Is(err, pulse.ErrHeld) {
					t.Errorf("%s was taken: %v", name, err)
				}
			}
			clock = clock.Add(time.Microsecond)
			for _, name := range []string{"mailer", "search"} {
				if err := take(name, "c", time.Second); err != nil {
					t.Errorf("%s does not run out: %v", name, err)
				}
			}
		})
	}
}

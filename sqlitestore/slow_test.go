package sqlitestore_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/sqlitestore"
)

type slowLesson struct {
	ID string `json:"id" pulse:"key"`
}

func (slowLesson) EventName() string { return "lesson.changed" }

// busOn is a bus on a store of its own on the file, as another process would have it.
func busOn(t *testing.T, path string, opts ...pulse.SubscribeOption) (*sqlitestore.Store, *pulse.Bus) {
	t.Helper()
	s := openStore(t, path)
	bus, err := pulse.New(s, &pulse.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	if len(opts) > 0 {
		if err := bus.Subscribe("mailer", opts...); err != nil {
			t.Fatal(err)
		}
	}
	return s, bus
}

func emitLesson(t *testing.T, bus *pulse.Bus) {
	t.Helper()
	if _, err := bus.Emit(t.Context(), slowLesson{"biology"}); err != nil {
		t.Fatal(err)
	}
}

// runAll runs buses until the first has handled everything.
func runAll(t *testing.T, buses ...*pulse.Bus) {
	t.Helper()
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, len(buses))
	for _, bus := range buses {
		go func() { ended <- bus.Run(running) }()
	}
	waiting, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := buses[0].Drain(waiting); err != nil {
		t.Error(err)
	}
	stop()
	for range buses {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A handler in a transaction that takes longer than a lease lasts is called once; so is a slow handler beside it, whichever bus on the file
// runs it, and whether the transaction commits or not.
func TestSlowTransactionOfAHandler(t *testing.T) {
	for name, answer := range map[string]error{"commits": nil, "is undone": pulse.Park("not today")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "log.db")
				var reports, mails atomic.Int32
				report := sqlitestore.OnTx(func(ctx context.Context, tx *sql.Tx, _ slowLesson) error {
					reports.Add(1)
					return sleep(ctx, 20*time.Second, answer)
				})
				mail := pulse.On(func(ctx context.Context, _ slowLesson) error {
					mails.Add(1)
					return sleep(ctx, 25*time.Second, nil)
				})
				var buses []*pulse.Bus
				for range 2 {
					_, bus := busOn(t, path, mail)
					if err := bus.Subscribe("report", report); err != nil {
						t.Fatal(err)
					}
					buses = append(buses, bus)
				}
				emitLesson(t, buses[0])
				runAll(t, buses...)
				if reports.Load() != 1 || mails.Load() != 1 {
					t.Errorf("the slow handler was called %d times, the one beside it %d times, want once each", reports.Load(), mails.Load())
				}
			})
		})
	}
}

// A long transaction of the application, on this store or another one on the file, costs a handler nothing.
func TestSlowTransactionBesideAHandler(t *testing.T) {
	for _, where := range []string{"this store", "another store"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "log.db")
				called, calls := make(chan struct{}, 100), 0
				s, bus := busOn(t, path, pulse.On(func(ctx context.Context, _ slowLesson) error {
					calls++
					called <- struct{}{}
					return sleep(ctx, 20*time.Second, nil)
				}))
				if where == "another store" {
					s = openStore(t, path)
				}
				emitLesson(t, bus)
				imported := make(chan error)
				go func() {
					<-called
					imported <- sqlitestore.Do(t.Context(), s, bus, func(*sql.Tx, pulse.Emitter) error {
						time.Sleep(15 * time.Second)
						return nil
					})
				}()
				runAll(t, bus)
				if err := <-imported; err != nil {
					t.Error(err)
				}
				if calls != 1 {
					t.Errorf("the handler was called %d times", calls)
				}
			})
		})
	}
}

// sleep is a handler that takes d and gives answer.
func sleep(ctx context.Context, d time.Duration, answer error) error {
	select {
	case <-time.After(d):
		return answer
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A renewal does not wait for a transaction, whoever has it open: it tells whether the lease is the current one.
func TestRenewingDuringATransaction(t *testing.T) {
	within := func(t *testing.T, s *sqlitestore.Store, fn func()) {
		if err := s.Transact(t.Context(), func(context.Context, pulse.Tx) error { fn(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for name, hold := range map[string]func(t *testing.T, s *sqlitestore.Store, path string, fn func()){
		"of this store":    func(t *testing.T, s *sqlitestore.Store, _ string, fn func()) { within(t, s, fn) },
		"of another store": func(t *testing.T, _ *sqlitestore.Store, path string, fn func()) { within(t, openStore(t, path), fn) },
		"of somebody else": func(t *testing.T, _ *sqlitestore.Store, path string, fn func()) {
			begin(t, openRaw(t, path, immediate))
			fn()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "log.db")
				s := openStore(t, path)
				renewDuring(t, s, func(fn func()) { hold(t, s, path, fn) })
			})
		})
	}
}

func renewDuring(t *testing.T, s *sqlitestore.Store, hold func(fn func())) {
	t.Helper()
	change := func(name string, c pulse.Control) {
		t.Helper()
		if err := s.Control(t.Context(), name, c); err != nil {
			t.Fatal(err)
		}
	}
	kept := subscribed(t, s, "kept", "a")
	change("kept", pulse.Control{Resume: true})
	lost := []pulse.Lease{subscribed(t, s, "taken", "a"), subscribed(t, s, "released", "a"), subscribed(t, s, "replayed", "a"), subscribed(t, s, "dropped", "a")}
	subscribed(t, s, "taken", "a") // again, which fences the first one
	if err := s.Release(t.Context(), lost[1]); err != nil {
		t.Fatal(err)
	}
	change("replayed", pulse.Control{Replay: &pulse.Replay{From: pulse.Beginning}})
	change("dropped", pulse.Control{Drop: true})
	hold(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // what the bus gives it
		defer cancel()
		got, err := s.Acquire(ctx, kept, time.Minute)
		if want := kept.Revision + 1; err != nil || got.Revision != want {
			t.Errorf("renewed as %+v, %v, want Revision %d", got, err, want)
		}
		if got.Revision = kept.Revision; got != kept {
			t.Errorf("%+v was renewed as %+v", kept, got)
		}
		for _, lease := range lost {
			if _, err := s.Acquire(ctx, lease, time.Minute); !errors.Is(err, pulse.ErrFenced) {
				t.Errorf("renewing the lease of %s: %v, want an ErrFenced", lease.Name, err)
			}
		}
		gone, leave := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, leave)
		if _, err := s.Acquire(gone, kept, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("renewing for a caller who left: %v", err)
		}
	})
}

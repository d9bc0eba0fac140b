package memstore_test

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/storetest"
)

func record(edits ...func(*pulse.Record)) pulse.Record {
	return storetest.Record("pulse/mem", edits...)
}

// A transaction that stays open for a while holds up who appends the same id, and nobody else.
func TestAppendWaitsForATransactionWithItsID(t *testing.T) {
	for name, end := range map[string]error{"commits": nil, "rolls back": errFault} {
		t.Run("which "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memstore.New(nil)
				rec, other := record(), record()
				start := time.Now()
				open := make(chan struct{})
				go func() {
					_ = store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
						err := tx.Append(ctx, []pulse.Record{rec})
						close(open)
						time.Sleep(time.Minute)
						return errors.Join(err, end)
					})
				}()
				<-open
				if err := store.Append(t.Context(), []pulse.Record{other}); err != nil || time.Since(start) != 0 {
					t.Errorf("append of another id: %v after %s, want at once", err, time.Since(start))
				}
				if err := store.Append(t.Context(), []pulse.Record{rec}); err != nil || time.Since(start) != time.Minute {
					t.Errorf("append of the same id: %v after %s, want after a minute", err, time.Since(start))
				}
				if info, err := store.Info(t.Context()); err != nil || info.Head != 2 {
					t.Errorf("head is %d, %v", info.Head, err)
				}
			})
		})
	}
}

func TestWaitingForATransactionEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		rec := record()
		err := store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
			if err := tx.Append(ctx, []pulse.Record{rec}); err != nil {
				return err
			}
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			err := store.Append(short, []pulse.Record{record(), rec})
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, pulse.ErrUnknown) {
				t.Errorf("error is %v, want a DeadlineExceeded that is no ErrUnknown", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := store.Info(t.Context()); err != nil || info.Head != 1 {
			t.Fatalf("head is %d, %v", info.Head, err)
		}
	})
}

func TestTransactionsThatWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(nil)
		one, two := record(), record()
		errs := make(chan error, 2)
		for _, recs := range [][2]pulse.Record{{one, two}, {two, one}} {
			go func() {
				errs <- store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
					if err := tx.Append(ctx, recs[:1]); err != nil {
						return err
					}
					time.Sleep(time.Second)
					return tx.Append(ctx, recs[1:])
				})
			}()
		}
		first, second := <-errs, <-errs
		if !errors.Is(first, pulse.ErrStore) || second != nil {
			t.Errorf("errors are %v and %v, want an ErrStore for who noticed and nil for the other", first, second)
		}
		if info, err := store.Info(t.Context()); err != nil || info.Head != 2 {
			t.Errorf("head is %d, %v", info.Head, err)
		}
	})
}

func TestTransactionGoesOnWithoutARefusedUnit(t *testing.T) {
	store := memstore.New(nil)
	good := record()
	bad := record(func(r *pulse.Record) { r.ID, r.Version = good.ID, 2 })
	late := record()
	err := store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, []pulse.Record{good}); err != nil {
			return err
		}
		if err := tx.Append(ctx, []pulse.Record{late, bad}); !errors.Is(err, pulse.ErrConflict) {
			t.Errorf("error is %v, want an ErrConflict", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := store.Read(t.Context(), pulse.Query{})
	if err != nil || len(page.Envelopes) != 1 || page.Envelopes[0].ID != good.ID {
		t.Fatalf("the log is %v, %v", page.Envelopes, err)
	}
	if err := store.Append(t.Context(), []pulse.Record{late}); err != nil {
		t.Fatalf("the refused unit keeps its id taken: %v", err)
	}
}

func TestTransactionCannotCommitIntoAChangedSubscription(t *testing.T) {
	for name, change := range map[string]pulse.Control{
		"dropped": {Drop: true}, "replayed": {Replay: &pulse.Replay{From: pulse.Beginning}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			err := f.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
				if _, err := tx.Mark(ctx, f.lease, []pulse.Position{5}); err != nil {
					return err
				}
				if err := tx.Append(ctx, []pulse.Record{f.rec}); err != nil {
					return err
				}
				return f.Control(ctx, "mailer", change)
			})
			if !errors.Is(err, pulse.ErrFenced) || f.head(t) != 0 {
				t.Fatalf("error is %v with head %d, want an ErrFenced and nothing committed", err, f.head(t))
			}
		})
	}
}

// Who marks what another transaction has marked learns, after waiting, whether its lease is still the current one.
func TestMarkAfterWaitingNeedsTheLeaseStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty(t)
		marked := make(chan struct{})
		go func() {
			_ = f.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
				_, err := tx.Mark(ctx, f.lease, []pulse.Position{5})
				close(marked)
				time.Sleep(time.Minute)
				return errors.Join(err, errFault)
			})
		}()
		<-marked
		waited := make(chan error)
		go func() {
			_, err := mark(t.Context(), f, 5)
			waited <- err
		}()
		synctest.Wait()
		if err := f.Release(t.Context(), f.lease); err != nil {
			t.Error(err)
		}
		if err := <-waited; !errors.Is(err, pulse.ErrFenced) {
			t.Errorf("error is %v, want an ErrFenced", err)
		}
	})
}

func TestTransactionCannotCommitAfterClose(t *testing.T) {
	store := memstore.New(nil)
	err := store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, []pulse.Record{record()}); err != nil {
			return err
		}
		return store.Close()
	})
	if !errors.Is(err, pulse.ErrClosed) || errors.Is(err, pulse.ErrUnknown) {
		t.Fatalf("error is %v, want an ErrClosed", err)
	}
}

// A function that ends its goroutine, as t.FailNow does, leaves nothing claimed.
func TestTransactionEndsWithItsGoroutine(t *testing.T) {
	store := memstore.New(nil)
	rec := record()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
			if err := tx.Append(ctx, []pulse.Record{rec}); err != nil {
				t.Error(err)
			}
			runtime.Goexit()
			return nil
		})
	}()
	<-ended
	if err := store.Append(t.Context(), []pulse.Record{rec}); err != nil {
		t.Fatal(err)
	}
}

func TestUnwrapIsTheTransactionItself(t *testing.T) {
	err := memstore.New(nil).Transact(t.Context(), func(_ context.Context, tx pulse.Tx) error {
		if own, ok := tx.Unwrap().(*memstore.Tx); !ok || own != tx {
			t.Errorf("Unwrap returned %v", tx.Unwrap())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLateSequencing(t *testing.T) {
	store := memstore.New(&memstore.Options{LateSequencing: true})
	recs := []pulse.Record{record(), record(), record()}
	for i := range recs {
		if err := store.Append(t.Context(), recs[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if page, err := store.Read(t.Context(), pulse.Query{}); err != nil || len(page.Envelopes) != 0 || page.Next != 0 {
		t.Fatalf("before Info, Read gives %+v, %v", page, err)
	}
	changed := recs[0]
	changed.Version = 2
	var conflict *pulse.ConflictError
	if err := store.Append(t.Context(), []pulse.Record{changed}); !errors.As(err, &conflict) || conflict.Position != 0 {
		t.Fatalf("a conflict with an event without position: %v", err)
	}
	if info, err := store.Info(t.Context()); err != nil || info.Head != 3 {
		t.Fatalf("Info gives %+v, %v", info, err)
	}
	page, err := store.Read(t.Context(), pulse.Query{})
	if err != nil || len(page.Envelopes) != 3 {
		t.Fatalf("after Info, Read gives %+v, %v", page, err)
	}
	for i, env := range page.Envelopes {
		if env.ID != recs[i].ID {
			t.Errorf("position %d is not in the order of the appends", env.Position)
		}
	}
}

func TestReadLooksAtSomePositionsOnly(t *testing.T) {
	store := memstore.New(nil)
	recs := make([]pulse.Record, 2500)
	for i := range recs {
		recs[i] = record()
	}
	recs[2400].Name = "quiz.submitted"
	if err := store.Append(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
	q := pulse.Query{Name: "quiz.submitted"}
	empty := 0
	for {
		page, err := store.Read(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Envelopes) > 0 {
			break
		}
		if page.Next == q.After {
			t.Fatal("the event was not found")
		}
		empty++
		q.After = page.Next
	}
	if empty != 2 {
		t.Fatalf("%d empty pages before the event at 2401, want 2", empty)
	}
}

func TestLargeEventsAreRefused(t *testing.T) {
	store := memstore.New(&memstore.Options{MaxEventBytes: 1000, Origin: "school/log"})
	rec := storetest.Record("school/log", func(r *pulse.Record) { r.Data = make([]byte, 600) })
	if err := store.Append(t.Context(), []pulse.Record{rec}); !errors.Is(err, pulse.ErrTooLarge) {
		t.Fatalf("error is %v, want an ErrTooLarge", err)
	}
	info, err := store.Info(t.Context())
	if want := (pulse.Info{Origin: "school/log", Epoch: 1, MaxBytes: 1000}); err != nil || !reflect.DeepEqual(info, want) {
		t.Fatalf("Info gives %+v, %v", info, err)
	}
}

func TestInvalidRequestsAreRefused(t *testing.T) {
	f := newFaulty(t)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"no control":   func() error { return f.Control(ctx, "mailer", pulse.Control{}) },
		"two controls": func() error { return f.Control(ctx, "mailer", pulse.Control{Resume: true, Drop: true}) },
		"pause and replay": func() error {
			return f.Control(ctx, "mailer", pulse.Control{Pause: &pulse.Pause{}, Replay: &pulse.Replay{From: 1}})
		},
		"replay from nowhere":  func() error { return f.Control(ctx, "mailer", pulse.Control{Replay: &pulse.Replay{}}) },
		"register at nowhere":  func() error { _, err := f.Register(ctx, pulse.Registration{Name: "search", Start: 0}); return err },
		"unknown settlement":   func() error { _, err := f.Settle(ctx, pulse.DeliveryQuery{}, "forget"); return err },
		"lease without holder": func() error { _, err := f.Acquire(ctx, pulse.Lease{Name: "mailer"}, time.Hour); return err },
		"lease without time":   func() error { _, err := f.Acquire(ctx, pulse.Lease{Name: "mailer", Holder: "b"}, 0); return err },
	} {
		before := f.state(t)
		if err := call(); !errors.Is(err, pulse.ErrInvalid) {
			t.Errorf("%s: error is %v, want an ErrInvalid", name, err)
		}
		if after := f.state(t); after != before {
			t.Errorf("%s changed\n   %+v\nto %+v", name, before, after)
		}
	}
	if err := f.Append(ctx, []pulse.Record{record(func(r *pulse.Record) { r.ID = uuid.New() })}); err != nil {
		t.Errorf("an id of another version: %v", err)
	}
}

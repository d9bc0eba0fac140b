package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

func transactChecks() []check {
	return []check{
		{"a transaction that returns nil commits", transactCommits},
		{"a transaction that returns an error rolls back and returns it as it is", transactError},
		{"a transaction that panics rolls back and panics on", transactPanics},
		{"a transaction whose context is cancelled rolls back", transactCancelled},
		{"a transaction begun with a cancelled context does nothing", transactNotBegun},
		{"what a transaction appends is not seen before it commits", transactInvisible},
		{"Append in a transaction refuses what Append refuses", transactRefuses},
		{"Append in a transaction knows what the transaction appended before", transactRepeats},
		{"a repeated id in a transaction changes nothing", transactRepeatsStored},
		{"a transaction is dead after its end", transactDead},
		{"rolled back transactions leave no gap", transactNoGap},
		{"Unwrap returns the adapter's own transaction", transactUnwrap},
		{"an event emitted in a transaction exists if and only if it commits", transactProperty},
		{"transactions run beside each other and beside appends", transactConcurrent},
	}
}

// transact runs fn in a transaction of the store; it skips the case when the store has none.
func (h *harness) transact(ctx context.Context, fn func(ctx context.Context, tx pulse.Tx) error) error {
	h.Helper()
	return h.transactor().Transact(ctx, fn)
}

func (h *harness) transactor() pulse.Transactor {
	h.Helper()
	t, ok := h.store.(pulse.Transactor)
	if !ok {
		h.Skip("not applicable: the store is no pulse.Transactor")
	}
	return t
}

func transactCommits(h *harness) {
	recs := h.records(3)
	ran := false
	h.ok(h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
		ran = true
		if err := tx.Append(ctx, recs[:2]); err != nil {
			return err
		}
		return tx.Append(ctx, recs[2:])
	}))
	if !ran {
		h.Fatal("the function did not run")
	}
	h.holds(recs...)
	h.ok(h.transact(h.ctx, func(context.Context, pulse.Tx) error { return nil }))
	h.holds(recs...)
}

func transactError(h *harness) {
	err := h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
		h.ok(tx.Append(ctx, h.records(2)))
		return errRollback
	})
	if err != errRollback { //nolint:errorlint // as it is
		h.Fatalf("error is %v, want the function's own", err)
	}
	h.holds()
}

func transactPanics(h *harness) {
	h.transactor()
	func() {
		defer func() {
			if got := recover(); got != "out of chalk" {
				h.Errorf("recovered %v, want the function's panic", got)
			}
		}()
		_ = h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
			h.ok(tx.Append(ctx, h.records(2)))
			panic("out of chalk")
		})
	}()
	rec := h.record()
	h.append(rec)
	h.holds(rec)
}

func transactCancelled(h *harness) {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	err := h.transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, h.records(1)); err != nil {
			return err
		}
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, pulse.ErrUnknown) {
		h.Fatalf("error is %v, want a context.Canceled that is no ErrUnknown", err)
	}
	rec := h.record()
	h.append(rec)
	h.holds(rec)
}

func transactNotBegun(h *harness) {
	err := h.transact(h.cancelled(), func(context.Context, pulse.Tx) error {
		h.Error("the function ran")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		h.Fatalf("error is %v, want a context.Canceled", err)
	}
}

func transactInvisible(h *harness) {
	stored, added := h.record(), h.record()
	h.append(stored)
	h.ok(h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, []pulse.Record{added}); err != nil {
			return err
		}
		ctx, cancel := h.within()
		defer cancel()
		info, err := h.store.Info(ctx)
		if err != nil {
			return fmt.Errorf("Info beside an open transaction: %w", err)
		}
		page, err := h.store.Read(ctx, pulse.Query{})
		if err != nil {
			return fmt.Errorf("Read beside an open transaction: %w", err)
		}
		if info.Head != 1 || len(page.Envelopes) != 1 || page.Next != 1 {
			return fmt.Errorf("head is %d and %d events are readable before the commit, want 1", info.Head, len(page.Envelopes))
		}
		return nil
	}))
	h.holds(stored, added)
}

func transactRefuses(h *harness) {
	taken := h.record()
	h.append(taken)
	for _, c := range []struct {
		bad  pulse.Record
		want error
	}{
		{h.record(identified(taken.ID), data(`{"title":"something else"}`)), pulse.ErrConflict},
		{Record("someone/else"), pulse.ErrInvalid},
	} {
		var inside error
		err := h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
			inside = tx.Append(ctx, []pulse.Record{h.record(), c.bad})
			return inside
		})
		if !errors.Is(inside, c.want) || !errors.Is(err, c.want) {
			h.Fatalf("Append fails with %v and Transact with %v, want %v", inside, err, c.want)
		}
	}
	h.holds(taken)
}

func transactRepeats(h *harness) {
	rec := h.record()
	h.ok(h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, []pulse.Record{rec}); err != nil {
			return err
		}
		return tx.Append(ctx, []pulse.Record{rec})
	}))
	h.holds(rec)
	one := h.record()
	other := h.record(identified(one.ID), data(`{"title":"something else"}`))
	err := h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, []pulse.Record{one}); err != nil {
			return fmt.Errorf("first: %w", errRollback)
		}
		return tx.Append(ctx, []pulse.Record{other})
	})
	if !errors.Is(err, pulse.ErrConflict) {
		h.Fatalf("two contents under one id: error is %v, want an ErrConflict", err)
	}
	h.holds(rec)
}

func transactRepeatsStored(h *harness) {
	recs := h.records(3)
	h.append(recs[0], recs[1])
	h.ok(h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error { return tx.Append(ctx, recs) }))
	h.holds(recs...)
}

func transactDead(h *harness) {
	for _, outcome := range []error{nil, errRollback} {
		var kept pulse.Tx
		_ = h.transact(h.ctx, func(_ context.Context, tx pulse.Tx) error {
			kept = tx
			return outcome
		})
		if err := kept.Append(h.ctx, h.records(1)); !errors.Is(err, pulse.ErrClosed) {
			h.Fatalf("Append after the end: error is %v, want an ErrClosed", err)
		}
		if _, err := kept.Mark(h.ctx, pulse.Lease{Name: "mailer", Holder: "a", Token: 1, Generation: 1}, []pulse.Position{1}); !errors.Is(err, pulse.ErrClosed) {
			h.Fatalf("Mark after the end: error is %v, want an ErrClosed", err)
		}
	}
	h.holds()
}

func transactNoGap(h *harness) {
	var want []pulse.Record
	for i := range 12 {
		recs := h.records(2)
		err := h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
			if err := tx.Append(ctx, recs); err != nil {
				return err
			}
			if i%3 != 0 {
				return errRollback
			}
			return nil
		})
		if i%3 == 0 {
			h.ok(err)
			want = append(want, recs...)
		}
	}
	h.holds(want...)
}

func transactUnwrap(h *harness) {
	h.ok(h.transact(h.ctx, func(_ context.Context, tx pulse.Tx) error {
		if tx.Unwrap() == nil {
			return errors.New("Unwrap returned nil")
		}
		return nil
	}))
}

// ending is how a transaction of the property test ends.
type ending int

const (
	endCommit ending = iota
	endError
	endPanic
	endCancel
	endings
)

func transactProperty(h *harness) {
	h.transactor()
	seed := rand.Uint64()
	h.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	exists := make(map[uuid.UUID]bool) // of all ids ever appended
	var known []pulse.Record
	for range 60 {
		units := make([][]pulse.Record, r.IntN(3))
		for i := range units {
			units[i] = h.records(r.IntN(3))
			if len(known) > 0 && r.IntN(4) == 0 {
				units[i] = append(units[i], known[r.IntN(len(known))])
			}
		}
		end := ending(r.IntN(int(endings)))
		committed := runEnding(h, end, units)
		if want := end == endCommit; committed != want {
			h.Fatalf("a transaction that ended with %d: committed is %v", end, committed)
		}
		for _, unit := range units {
			for _, rec := range unit {
				exists[rec.ID] = exists[rec.ID] || committed
				known = append(known, rec)
			}
		}
	}
	want := 0
	for _, e := range exists {
		if e {
			want++
		}
	}
	envs := h.log(pulse.Query{})
	for i, env := range envs {
		if !exists[env.ID] || env.Position != pulse.Position(i+1) {
			h.Fatalf("the event %s at position %d: should exist is %v, should be at %d", env.ID, env.Position, exists[env.ID], i+1)
		}
	}
	if len(envs) != want {
		h.Fatalf("%d events exist, %d were committed", len(envs), want)
	}
}

// runEnding appends units in one transaction that ends as told, and reports whether it committed.
func runEnding(h *harness, end ending, units [][]pulse.Record) (committed bool) {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	defer func() {
		if end == endPanic {
			_ = recover()
		}
	}()
	err := h.transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
		for _, unit := range units {
			if err := tx.Append(ctx, unit); err != nil {
				h.Errorf("append in a transaction: %v", err)
			}
		}
		switch end {
		case endError:
			return errRollback
		case endPanic:
			panic(errRollback)
		case endCancel:
			cancel()
		}
		return nil
	})
	return err == nil
}

func transactConcurrent(h *harness) {
	h.transactor()
	shared := h.records(10)
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for i := range shared {
				err := h.transact(h.ctx, func(ctx context.Context, tx pulse.Tx) error {
					err := tx.Append(ctx, []pulse.Record{shared[i], h.record()})
					time.Sleep(time.Millisecond) // lets another transaction append meanwhile
					return err
				})
				if err != nil {
					h.Errorf("transaction: %v", err)
				}
			}
		})
	}
	writers.Go(func() {
		for _, rec := range slices.Backward(shared) { // so that the transactions come first to half of them
			if err := h.store.Append(h.ctx, []pulse.Record{rec, h.record()}); err != nil {
				h.Errorf("append: %v", err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	writers.Wait()
	if head := h.info().Head; head != 50 {
		h.Fatalf("head is %d, want 10 shared and 40 own events", head)
	}
}

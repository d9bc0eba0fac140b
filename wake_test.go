package pulse_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// counting is a store that counts.
type counting struct {
	*memstore.Store
	infos, appends, reads atomic.Int64
}

func (s *counting) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	s.reads.Add(1)
	return s.Store.Read(ctx, q)
}

func (s *counting) Info(ctx context.Context) (pulse.Info, error) {
	s.infos.Add(1)
	return s.Store.Info(ctx)
}

func (s *counting) Append(ctx context.Context, recs []pulse.Record) error {
	s.appends.Add(1)
	time.Sleep(time.Millisecond) // as long as a sync takes: concurrent emits share it
	return s.Store.Append(ctx, recs)
}

// TestTheLogIsLookedAtOncePerBatch: emits that share a transaction share the look at the log too.
func TestTheLogIsLookedAtOncePerBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: memstore.New(nil)}
		bus, err := pulse.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- bus.Run(ctx) }()
		synctest.Wait()
		store.infos.Store(0)
		start := time.Now()
		var emitters sync.WaitGroup
		for k := range 100 {
			emitters.Go(func() {
				for n := range 20 {
					if _, err := bus.Emit(t.Context(), lesson{N: k*100 + n}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		emitters.Wait()
		polls := int64(time.Since(start)/(20*time.Millisecond)) + 1
		infos, appends := store.infos.Load(), store.appends.Load()
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if appends > 200 {
			t.Fatalf("2000 emits of 100 callers took %d transactions: this tests nothing", appends)
		}
		if infos > appends+polls {
			t.Errorf("the log was looked at %d times for %d transactions and %d polls", infos, appends, polls)
		}
	})
}

// TestWhatAHandlerEmitsIsSeenAtOnce, although it exists only once the handler's transaction has committed.
func TestWhatAHandlerEmitsIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, _ := newBus(t)
		const chain = 10
		finished := make(chan time.Time, 1)
		subscribe(t, bus, "chain", pulse.OnTx(func(ctx context.Context, _ pulse.Tx, e lesson) error {
			if e.N == chain {
				finished <- time.Now()
				return nil
			}
			_, err := bus.Emit(ctx, lesson{N: e.N + 1})
			return err
		}))
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- bus.Run(ctx) }()
		synctest.Wait()
		start := time.Now()
		emit(t, bus, lesson{})
		if took := (<-finished).Sub(start); took > 0 {
			t.Errorf("%d steps took %s of waiting", chain, took)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestWhatWasJustEmittedIsAtHand: the store is read for what another process has emitted, and what lies behind that, only.
func TestWhatWasJustEmittedIsAtHand(t *testing.T) {
	store := &counting{Store: memstore.New(nil)}
	bus, got := subscribed(t, store)
	other, err := pulse.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	emit(t, bus, lesson{"a", 1})
	drain(t, bus)
	if n := store.reads.Load(); got.Load() != 1 || n != 0 {
		t.Errorf("%d events are handled and the store was read %d times, want 1 and never", got.Load(), n)
	}
	emit(t, other, lesson{"a", 2})
	emit(t, bus, lesson{"a", 1})
	drain(t, bus)
	if got.Load() != 3 {
		t.Errorf("%d events are handled, want 3", got.Load())
	}
}

// bringing is a store whose looks bring the last event along.
type bringing struct{ *counting }

func (s bringing) Info(ctx context.Context) (pulse.Info, error) {
	info, err := s.counting.Info(ctx)
	if err == nil && info.Head > 0 {
		var page pulse.Page
		page, err = s.Store.Read(ctx, pulse.Query{After: info.Head - 1})
		info.Newest = page.Envelopes
	}
	return info, err
}

// TestWhatALookBringsIsNotRead: what another process has emitted is handled without a read if the look that found it brought it.
func TestWhatALookBringsIsNotRead(t *testing.T) {
	store := bringing{&counting{Store: memstore.New(nil)}}
	bus, got := subscribed(t, store)
	other, err := pulse.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	emit(t, other, lesson{"a", 1})
	drain(t, bus)
	if n := store.reads.Load(); got.Load() != 1 || n != 0 {
		t.Errorf("%d events are handled and the store was read %d times, want 1 and never", got.Load(), n)
	}
}

// subscribed is a bus over store that counts what it handles.
func subscribed(t *testing.T, store pulse.Store) (*pulse.Bus, *atomic.Int64) {
	t.Helper()
	bus, err := pulse.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got atomic.Int64
	if err := bus.Subscribe("index", pulse.On(func(context.Context, lesson) error { got.Add(1); return nil }), pulse.Start(pulse.Beginning)); err != nil {
		t.Fatal(err)
	}
	return bus, &got
}

// slow is a store on which a look at the log takes a while, and gives positions.
type slow struct {
	*counting
	head atomic.Int64
}

const lookTakes = 3 * time.Millisecond / 2

func (s *slow) Append(ctx context.Context, recs []pulse.Record) error {
	return s.counting.Append(ctx, slices.Clone(recs))
}

func (s *slow) Info(ctx context.Context) (pulse.Info, error) {
	info, err := s.counting.Info(ctx)
	time.Sleep(lookTakes)
	s.head.Store(int64(info.Head))
	return info, err
}

func (s *slow) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	q.Through = pulse.Position(s.head.Load())
	return s.counting.Read(ctx, q)
}

// TestLooksAtTheLogArePaced: what is emitted in a stream shares looks, after two that tell it is one. Events that come one by one wait for one look each,
// and the second of two for the end of that and one of its own.
func TestLooksAtTheLogArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slow{counting: &counting{Store: memstore.New(nil)}}
		bus, err := pulse.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		handled := make(chan time.Time, 1000)
		subscribe(t, bus, "mailer", pulse.On(func(context.Context, lesson) error {
			handled <- time.Now()
			return nil
		}))
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- bus.Run(ctx) }()
		synctest.Wait()
		store.infos.Store(0)
		start := time.Now()
		const emits = 300 // each takes less than a look
		for n := range emits {
			emit(t, bus, lesson{N: n})
		}
		// One in the time of a look and the rest behind it, the first, and the second, that tells that it is a stream.
		if looks, most := store.infos.Load(), int64(time.Since(start)/(3*lookTakes))+2; looks > most {
			t.Errorf("%d emits in a row had the log looked at %d times, want %d at most", emits, looks, most)
		}
		for range emits {
			<-handled
		}
		time.Sleep(time.Second)
		for range 100 {
			emit(t, bus, lesson{})
			stored := time.Now()
			if waited := (<-handled).Sub(stored); waited > lookTakes {
				t.Errorf("an event that came alone waited for %s", waited)
			}
			time.Sleep(lookTakes) // less than a rest would take
		}
		time.Sleep(time.Second)
		for range 100 {
			emit(t, bus, lesson{})
			time.Sleep(lookTakes / 4)
			emit(t, bus, lesson{}) // while the log is looked at for the first
			stored := time.Now()
			<-handled
			if waited := (<-handled).Sub(stored); waited > 2*lookTakes {
				t.Errorf("the second of two events waited for %s", waited)
			}
			time.Sleep(10 * lookTakes)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestManySignsDelayNoLook: the log is looked at soon after a sign, however many others follow it.
func TestManySignsDelayNoLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: memstore.New(nil)}
		bus, _ := subscribed(t, store)
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- bus.Run(ctx) }()
		time.Sleep(time.Second)
		store.infos.Store(0)
		err := store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
			for range 20 {
				if _, err := bus.In(tx).Emit(ctx, lesson{}); err != nil {
					return err
				}
				time.Sleep(500 * time.Microsecond)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := store.infos.Load(); n < 3 {
			t.Errorf("the log was looked at %d times in 10 ms, want 3 at least", n)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestWhoWakesIsNotWaitedFor: until a transaction of InUntilWake has ended the log is looked at no more often than always; of In it is.
func TestWhoWakesIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: memstore.New(nil)}
		bus, got := subscribed(t, store)
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- bus.Run(ctx) }()
		time.Sleep(time.Second)
		looks := func(in func(pulse.Appender) pulse.Emitter) int64 {
			err := store.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
				if _, err := in(tx).Emit(ctx, lesson{}); err != nil {
					return err
				}
				store.infos.Store(0)
				time.Sleep(100 * time.Millisecond)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			n := store.infos.Load()
			bus.Wake()
			synctest.Wait()
			return n
		}
		if in, until := looks(bus.In), looks(bus.InUntilWake); in < 10 || until > 6 {
			t.Errorf("%d looks in 100 ms with In and %d with InUntilWake, want 10 or more and 6 at most", in, until)
		}
		if got.Load() != 2 {
			t.Errorf("%d events are handled, want 2", got.Load())
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

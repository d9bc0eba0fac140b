//go:build unix

package guarantee

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// Random transactions, with rows of the user, events, refused events, savepoints, and every way to end: an event is in the log if
// and only if the row written beside it is in the table.
func TestG03_InATransactionIffItCommits(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		w := open(t, newPlace(t, k), "")
		taken, err := w.bus.Emit(t.Context(), pulse.Raw{Name: "id.taken", Data: []byte(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		h := &history{world: w, taken: taken, committed: map[int]bool{}, unknown: map[int]bool{}, ends: map[string]int{}, steps: map[string]int{}}
		ways := w.transactions(w)
		var running sync.WaitGroup
		for name, way := range ways {
			running.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(len(name))))
				for n := 0; n < scaled(250, 50) || !h.allEndings() && n < 2000; n++ {
					h.transaction(t, way, random)
				}
			})
		}
		running.Wait()
		h.compare(t)
		t.Logf("%d ways, ends: %v, steps: %v; %d events committed", len(ways), h.ends, h.steps, len(h.committed))
		for _, end := range endings() {
			atLeast(t, "transactions that ended by "+end, h.ends[end], fewEndings)
		}
		for _, step := range []string{"event", "unit", "refused"} {
			atLeast(t, "steps of the sort "+step, h.steps[step], 20)
		}
	})
}

// history is what became of all transactions of a test.
type history struct {
	*world
	taken uuid.UUID // the id of an event that says something else

	mu        sync.Mutex
	last      int // the last number given
	committed map[int]bool
	unknown   map[int]bool // nobody knows: the context ended while the answer to the commit was awaited
	ends      map[string]int
	steps     map[string]int
}

func (h *history) number() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	return h.last
}

func (h *history) counted(m map[string]int, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m[what]++
}

// compare compares log, table and what was told.
func (h *history) compare(t *testing.T) {
	t.Helper()
	events, rows := h.lessons(t), h.effects(t)
	if !maps.Equal(events, rows) {
		t.Errorf("%d events, %d rows", len(events), len(rows))
	}
	for n := 1; n <= h.last; n++ {
		want := 0
		if h.committed[n] {
			want = 1
		}
		if h.unknown[n] {
			want = min(events[n], 1) // rows say the same
		}
		if events[n] != want || rows[n] != want {
			t.Errorf("number %d: %d events, %d rows, want %d", n, events[n], rows[n], want)
		}
	}
}

// endings are the ways in which a transaction ends.
func endings() []string {
	return []string{"commit", "error", "panic", "goexit", "cancel", "cancelled meanwhile"}
}

// fewEndings is how many transactions have to end in each way to prove anything.
const fewEndings = 3

// allEndings reports whether they did.
func (h *history) allEndings() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !slices.ContainsFunc(endings(), func(end string) bool { return h.ends[end] < fewEndings })
}

// errGiveUp is why a transaction is rolled back.
var errGiveUp = errors.New("give up")

// transaction makes one transaction and notes what it committed.
func (h *history) transaction(t *testing.T, way transaction, random *rand.Rand) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := "commit"
	if random.IntN(2) == 0 {
		end = endings()[random.IntN(len(endings()))]
	}
	if end == "cancelled meanwhile" {
		after := time.Duration(random.IntN(3000)) * time.Microsecond
		defer time.AfterFunc(after, cancel).Stop()
	}
	s := &steps{history: h, random: random}
	err := guarded(func() error {
		return way(ctx, func(tx any, e pulse.Emitter) error {
			s.tx, s.e = tx, e
			if err := s.some(ctx, 0); err != nil {
				return err
			}
			return finish(end, cancel)
		})
	})
	h.counted(h.ends, end)
	switch {
	case err == nil && end != "commit" && end != "cancelled meanwhile":
		t.Errorf("a transaction that ends by %s has committed", end)
	case err == nil:
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, n := range s.done {
			h.committed[n] = true
		}
	case errors.Is(err, pulse.ErrUnknown) && end == "cancelled meanwhile" && errors.Is(err, context.Canceled):
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, n := range s.done {
			h.unknown[n] = true
		}
	case errors.Is(err, pulse.ErrUnknown):
		t.Errorf("a transaction that nobody disturbed is unknown: %v", err)
	case end == "commit":
		t.Errorf("%v", err)
	}
}

// finish ends the user's function.
func finish(end string, cancel func()) error {
	switch end {
	case "error":
		return errGiveUp
	case "panic":
		panic("a bug of the user")
	case "goexit":
		runtime.Goexit()
	case "cancel":
		cancel()
	}
	return nil
}

// guarded runs fn and turns panics and Goexit into errors.
func guarded(fn func() error) error {
	result := errors.New("the goroutine ended")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				result = fmt.Errorf("panic: %v", p)
			}
		}()
		result = fn()
	}()
	<-done
	return result
}

// steps are what one transaction does.
type steps struct {
	*history
	random *rand.Rand
	tx     any
	e      pulse.Emitter
	done   []int // numbers that are there if the transaction commits
}

// some does a few steps. depth is how many savepoints are open.
func (s *steps) some(ctx context.Context, depth int) error {
	for range s.random.IntN(5) {
		if err := s.one(ctx, depth); err != nil {
			return err
		}
	}
	return nil
}

func (s *steps) one(ctx context.Context, depth int) error {
	switch s.random.IntN(6) {
	case 0:
		return s.unit(ctx)
	case 1:
		return s.refused(ctx)
	case 2:
		if tx, ok := s.tx.(*sql.Tx); ok && depth < 3 {
			return s.savepoint(ctx, tx, depth)
		}
	}
	return s.event(ctx)
}

// event writes a row and an event.
func (s *steps) event(ctx context.Context) error {
	s.counted(s.history.steps, "event")
	n := s.number()
	rowFirst := s.random.IntN(2) == 0
	if rowFirst {
		if err := s.write(ctx, s.tx, s.e, n); err != nil {
			return err
		}
	}
	if _, err := s.e.Emit(ctx, lesson{Key: "key", N: n}); err != nil {
		return err
	}
	if !rowFirst {
		if err := s.write(ctx, s.tx, s.e, n); err != nil {
			return err
		}
	}
	s.done = append(s.done, n)
	return nil
}

// unit writes several at once.
func (s *steps) unit(ctx context.Context) error {
	s.counted(s.history.steps, "unit")
	numbers := []int{s.number(), s.number(), s.number()}
	var evs []pulse.Event
	for _, n := range numbers {
		evs = append(evs, lesson{Key: "key", N: n})
		if err := s.write(ctx, s.tx, s.e, n); err != nil {
			return err
		}
	}
	if _, err := s.e.EmitAll(ctx, evs); err != nil {
		return err
	}
	s.done = append(s.done, numbers...)
	return nil
}

// refused emits what the bus or the store refuses; the transaction goes on without it.
func (s *steps) refused(ctx context.Context) error {
	s.counted(s.history.steps, "refused")
	good := lesson{Key: "key", N: s.number()}
	var err error
	switch s.random.IntN(3) {
	case 0:
		_, err = s.e.Emit(ctx, good, pulse.ID(s.taken))
	case 1:
		_, err = s.e.EmitAll(ctx, []pulse.Event{good, lesson{Key: "key", N: s.number(), Pad: strings.Repeat("x", 600<<10)}})
	case 2:
		_, err = s.e.EmitAll(ctx, []pulse.Event{good, pulse.Raw{Name: "Not a name", Data: []byte(`{}`)}})
	}
	switch {
	case errors.Is(err, pulse.ErrConflict), errors.Is(err, pulse.ErrTooLarge), errors.Is(err, pulse.ErrInvalid):
		return nil
	case err == nil:
		return errors.New("what must be refused was not")
	}
	return err
}

// savepoint does some steps that are undone, or not.
func (s *steps) savepoint(ctx context.Context, tx *sql.Tx, depth int) error {
	name := fmt.Sprintf("point_%d", depth)
	if _, err := tx.Exec("SAVEPOINT " + name); err != nil {
		return err
	}
	before := len(s.done)
	if err := s.some(ctx, depth+1); err != nil {
		return err
	}
	if s.random.IntN(2) == 0 {
		s.counted(s.history.steps, "rollback to a savepoint")
		if _, err := tx.Exec("ROLLBACK TO " + name); err != nil {
			return err
		}
		s.done = s.done[:before]
	}
	_, err := tx.Exec("RELEASE " + name)
	return err
}

// A transactional handler emits with its context and fails in all ways: what it emitted is there if and only if its row is.
func TestG03_HandlerEmitsIffItsTransactionCommits(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k kind) {
		n := scaled(300, 60)
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		var mu sync.Mutex
		ends := map[string]int{}
		w := open(t, newPlace(t, k), "")
		w.emit(t, numbered(n, 7)...)
		w.subscribe(t, subscriptionName, soon(), pulse.Start(pulse.Beginning), w.onTx(func(ctx context.Context, tx any, e lesson) error {
			if err := w.write(ctx, tx, w.bus, e.N); err != nil {
				return err
			}
			if _, err := w.bus.Emit(ctx, follow{N: e.N}); err != nil {
				return err
			}
			mu.Lock()
			end := []string{"commit", "commit", "error", "panic", "goexit"}[random.IntN(5)]
			ends[end]++
			mu.Unlock()
			return finish(end, nil)
		}))
		w.drain(t)
		follows := map[int]int{}
		for l, err := range pulse.Load[follow](t.Context(), w.bus, pulse.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			follows[l.Event.N]++
		}
		t.Logf("seed %d: %d events, attempts ended by %v", seed, n, ends)
		exactly(t, "event of the handler", follows, n, 1)
		exactly(t, "row of the handler", w.effects(t), n, 1)
		for _, end := range []string{"error", "panic", "goexit"} {
			atLeast(t, "attempts that ended by "+end, ends[end], 5)
		}
	})
}

// follow is what a handler emits.
type follow struct {
	N int `json:"n"`
}

func (follow) EventName() string { return "lesson.followed" }

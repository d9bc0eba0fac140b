package storetest

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a testing.TB for a case that is expected to fail.
type recorder struct {
	testing.TB

	mu      sync.Mutex
	failed  bool
	skipped bool
	text    strings.Builder
}

func (r *recorder) note(failed bool, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = r.failed || failed
	fmt.Fprintln(&r.text, text)
}

func (r *recorder) Error(args ...any)                 { r.note(true, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.note(true, fmt.Sprintf(format, args...)) }
func (r *recorder) Logf(format string, args ...any)   { r.note(false, fmt.Sprintf(format, args...)) }
func (r *recorder) Helper()                           {}

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	r.exit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	r.exit()
}

func (r *recorder) Skip(args ...any) {
	r.skipped = true
	r.note(false, fmt.Sprint(args...))
	r.exit()
}

// exitCase ends a case, as runtime.Goexit does, but can be told from it.
type exitCase struct{}

func (r *recorder) exit() { panic(exitCase{}) }

// try runs one case against the stores of o.
func try(t *testing.T, o Options, c check) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	func() {
		defer func() {
			if got := recover(); got != nil && got != any(exitCase{}) {
				r.note(true, fmt.Sprintf("panic: %v\n%s", got, debug.Stack()))
			}
		}()
		c.run(newHarness(r, o))
	}()
	return r
}

// mutant is a store with planted bugs: where a function is set, it stands for the method.
type mutant struct {
	*memstore.Store

	onAppend   func(ctx context.Context, recs []pulse.Record) error
	onRead     func(ctx context.Context, q pulse.Query) (pulse.Page, error)
	onInfo     func(ctx context.Context) (pulse.Info, error)
	onTransact func(ctx context.Context, fn func(context.Context, pulse.Tx) error) error
	onMark     func(ctx context.Context, tx pulse.Tx, lease pulse.Lease, positions []pulse.Position) ([]pulse.Position, error)
	onTxAppend func(ctx context.Context, tx pulse.Tx, recs []pulse.Record) error
	onAcquire  func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error)
	onRelease  func(ctx context.Context, lease pulse.Lease) error
	onRegister func(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error)
	onStates   func(ctx context.Context) ([]pulse.SubscriptionState, error)
	onControl  func(ctx context.Context, name string, c pulse.Control) error
	onAdvance  func(ctx context.Context, lease pulse.Lease, p pulse.Progress) error
	onList     func(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error)
	onSettle   func(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (int, error)
	onIndex    func(ctx context.Context, limit int) (bool, error)
	onClose    func() error
	onReopen   func() pulse.Store
}

func (m *mutant) Append(ctx context.Context, recs []pulse.Record) error {
	if m.onAppend != nil {
		own := slices.Clone(recs)
		err := m.onAppend(ctx, own)
		for i := range own {
			recs[i].Position, recs[i].RecordedAt = own[i].Position, own[i].RecordedAt
		}
		return err
	}
	return m.Store.Append(ctx, recs)
}

func (m *mutant) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	if m.onRead != nil {
		return m.onRead(ctx, q)
	}
	return m.Store.Read(ctx, q)
}

func (m *mutant) Info(ctx context.Context) (pulse.Info, error) {
	if m.onInfo != nil {
		return m.onInfo(ctx)
	}
	return m.Store.Info(ctx)
}

// mutantTx is a transaction of a mutant.
type mutantTx struct {
	pulse.Tx
	m *mutant
}

func (tx *mutantTx) Append(ctx context.Context, recs []pulse.Record) error {
	if tx.m.onTxAppend != nil {
		return tx.m.onTxAppend(ctx, tx.Tx, slices.Clone(recs))
	}
	return tx.Tx.Append(ctx, recs)
}

func (tx *mutantTx) Mark(ctx context.Context, lease pulse.Lease, positions []pulse.Position) ([]pulse.Position, error) {
	if tx.m.onMark != nil {
		return tx.m.onMark(ctx, tx.Tx, lease, positions)
	}
	return tx.Tx.Mark(ctx, lease, positions)
}

func (m *mutant) Transact(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
	wrapped := func(ctx context.Context, tx pulse.Tx) error { return fn(ctx, &mutantTx{tx, m}) }
	if m.onTransact != nil {
		return m.onTransact(ctx, wrapped)
	}
	return m.Store.Transact(ctx, wrapped)
}

func (m *mutant) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	if m.onAcquire != nil {
		return m.onAcquire(ctx, lease, ttl)
	}
	return m.Store.Acquire(ctx, lease, ttl)
}

func (m *mutant) Release(ctx context.Context, lease pulse.Lease) error {
	if m.onRelease != nil {
		return m.onRelease(ctx, lease)
	}
	return m.Store.Release(ctx, lease)
}

func (m *mutant) Register(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
	if m.onRegister != nil {
		return m.onRegister(ctx, r)
	}
	return m.Store.Register(ctx, r)
}

func (m *mutant) States(ctx context.Context) ([]pulse.SubscriptionState, error) {
	if m.onStates != nil {
		return m.onStates(ctx)
	}
	return m.Store.States(ctx)
}

func (m *mutant) Control(ctx context.Context, name string, c pulse.Control) error {
	if m.onControl != nil {
		return m.onControl(ctx, name, c)
	}
	return m.Store.Control(ctx, name, c)
}

func (m *mutant) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	if m.onAdvance != nil {
		return m.onAdvance(ctx, lease, p)
	}
	return m.Store.Advance(ctx, lease, p)
}

func (m *mutant) List(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
	if m.onList != nil {
		return m.onList(ctx, q)
	}
	return m.Store.List(ctx, q)
}

func (m *mutant) Settle(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (int, error) {
	if m.onSettle != nil {
		return m.onSettle(ctx, q, a)
	}
	return m.Store.Settle(ctx, q, a)
}

// Index is that of a store which needs no index.
func (m *mutant) Index(ctx context.Context, limit int) (bool, error) {
	if m.onIndex != nil {
		return m.onIndex(ctx, limit)
	}
	return false, ctx.Err()
}

func (m *mutant) Close() error {
	if m.onClose != nil {
		return m.onClose()
	}
	return m.Store.Close()
}

// bug is something planted into a store, and the sentences whose cases must find it.
type bug struct {
	name  string
	plant func(m *mutant)
	found []string
}

func bugs() []bug {
	return slices.Concat(appendBugs(), readBugs(), indexBugs(), transactBugs(), markBugs(), leaseBugs(), controlBugs(), deliveryBugs(), lifeBugs())
}

// options are stores with the bug in them; with it planted nowhere they keep the contract.
func (b bug) options() Options {
	return Options{
		Open: func(testing.TB) pulse.Store {
			m := &mutant{Store: memstore.New(nil)}
			if b.plant != nil {
				b.plant(m)
			}
			return m
		},
		Reopen: func(_ testing.TB, s pulse.Store) pulse.Store { return s.(*mutant).reopened() },
	}
}

func TestBugsAreFound(t *testing.T) {
	checks := make(map[string]check)
	for _, g := range suite() {
		for _, c := range g.checks {
			if _, twice := checks[c.sentence]; twice {
				t.Fatalf("two cases for %q", c.sentence)
			}
			checks[c.sentence] = c
		}
	}
	tested := make(map[string]bool)
	for _, b := range bugs() {
		t.Run(b.name, func(t *testing.T) {
			for _, sentence := range b.found {
				c, ok := checks[sentence]
				if !ok {
					t.Fatalf("no case for %q", sentence)
				}
				tested[sentence] = true
				if r := try(t, b.options(), c); !r.failed {
					t.Errorf("%q did not find it\n%s", sentence, r.text.String())
				}
			}
		})
	}
	for sentence := range checks {
		if !tested[sentence] {
			t.Errorf("no bug shows that %q can fail", sentence)
		}
	}
}

func TestNoBugIsFoundWhereNoneIs(t *testing.T) {
	for _, g := range suite() {
		for _, c := range g.checks {
			if r := try(t, bug{}.options(), c); r.failed || r.skipped {
				t.Errorf("%s: %s", c.sentence, r.text.String())
			}
		}
	}
}

// plain is a store without any further ability.
type plain struct{ store *memstore.Store }

func (p plain) Append(ctx context.Context, recs []pulse.Record) error {
	return p.store.Append(ctx, recs)
}
func (p plain) Info(ctx context.Context) (pulse.Info, error) { return p.store.Info(ctx) }
func (p plain) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	return p.store.Read(ctx, q)
}

func TestCasesOfMissingAbilitiesAreSkipped(t *testing.T) {
	o := Options{Open: func(testing.TB) pulse.Store { return plain{memstore.New(nil)} }}
	optional := []string{"Index", "Transact", "Mark", "Lease", "Register", "Control", "Advance", "List", "Settle", "Reopen", "Close"}
	for _, g := range suite() {
		for _, c := range g.checks {
			r := try(t, o, c)
			if want := slices.Contains(optional, g.name); r.failed || r.skipped != want {
				t.Errorf("%s: skipped is %v, want %v; %s", c.sentence, r.skipped, want, r.text.String())
			}
		}
	}
}

func TestRun(t *testing.T) { Run(t, bug{}.options()) }

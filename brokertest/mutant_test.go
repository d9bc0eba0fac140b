package brokertest

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
	"github.com/edupulse-live/pulse/membroker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a testing.TB for a case that is expected to fail.
type recorder struct {
	testing.TB

	mu      sync.Mutex
	failed  bool
	skipped bool
	text    strings.Builder
	cleanup []func()
}

func (r *recorder) note(failed bool, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = r.failed || failed
	fmt.Fprintln(&r.text, text)
}

func (r *recorder) Error(args ...any)                 { r.note(true, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.note(true, fmt.Sprintf(format, args...)) }
func (r *recorder) Helper()                           {}
func (r *recorder) Cleanup(f func())                  { r.cleanup = append(r.cleanup, f) }

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	panic(exitCase{})
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(exitCase{})
}

func (r *recorder) Skip(args ...any) {
	r.skipped = true
	r.note(false, fmt.Sprint(args...))
	panic(exitCase{})
}

func (r *recorder) Skipf(format string, args ...any) { r.Skip(fmt.Sprintf(format, args...)) }

// exitCase ends a case, as runtime.Goexit does, but can be told from it.
type exitCase struct{}

// try runs one case against the brokers of o.
func try(t *testing.T, o Options, c check) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	guard := func(f func()) {
		defer func() {
			if got := recover(); got != nil && got != any(exitCase{}) {
				r.note(true, fmt.Sprintf("panic: %v\n%s", got, debug.Stack()))
			}
		}()
		f()
	}
	ctx, cancel := context.WithCancel(t.Context())
	guard(func() {
		h := newHarness(r, o)
		h.ctx = ctx
		c.run(h)
	})
	cancel()
	for _, f := range slices.Backward(r.cleanup) {
		guard(f)
	}
	return r
}

// mutant is a broker with planted bugs: where a function is set, it stands for the method.
type mutant struct {
	broker *membroker.Broker
	*membroker.Publisher

	onPublish      func(ctx context.Context, envs []pulse.Envelope) []pulse.Result
	onLast         func(ctx context.Context) (pulse.Cursor, bool, error)
	onCapabilities func() pulse.Capabilities
	onOpen         func(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error)
	onFetch        func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error)
	onAck          func(ctx context.Context, f *mutantFeed, receipts []uint64) error
	onClose        func(f *mutantFeed) error
}

func (m *mutant) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	if m.onPublish != nil {
		return m.onPublish(ctx, slices.Clone(envs))
	}
	return m.Publisher.PublishBatch(ctx, envs)
}

func (m *mutant) Last(ctx context.Context) (pulse.Cursor, bool, error) {
	if m.onLast != nil {
		return m.onLast(ctx)
	}
	return m.Publisher.Last(ctx)
}

func (m *mutant) Capabilities() pulse.Capabilities {
	if m.onCapabilities != nil {
		return m.onCapabilities()
	}
	return m.Publisher.Capabilities()
}

// mutantSource is the source of a mutant.
type mutantSource struct{ m *mutant }

func (s mutantSource) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	open := s.m.open
	if s.m.onOpen != nil {
		open = s.m.onOpen
	}
	f, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &mutantFeed{Feed: f, m: s.m, cfg: cfg}, nil
}

// open is what Open does without a bug.
func (m *mutant) open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	return m.broker.Source("school").Open(ctx, cfg)
}

// mutantFeed is a feed of a mutant.
type mutantFeed struct {
	pulse.Feed
	m    *mutant
	cfg  pulse.FeedConfig
	kept []uint64 // receipts
}

func (f *mutantFeed) Fetch(ctx context.Context, max int) ([]pulse.Message, error) {
	if f.m.onFetch != nil {
		return f.m.onFetch(ctx, f, max)
	}
	return f.Feed.Fetch(ctx, max)
}

func (f *mutantFeed) Ack(ctx context.Context, receipts []uint64) error {
	if f.m.onAck != nil {
		return f.m.onAck(ctx, f, receipts)
	}
	return f.Feed.Ack(ctx, receipts)
}

func (f *mutantFeed) Close() error {
	if f.m.onClose != nil {
		return f.m.onClose(f)
	}
	return f.Feed.Close()
}

// bug is something planted into a broker, and the sentences whose cases must find it.
type bug struct {
	name  string
	plant func(m *mutant)
	found []string
}

// options are brokers with the bug in them; with it planted nowhere they keep the contract.
func (b bug) options() Options {
	return Options{
		patience: 100 * time.Millisecond,
		Quiet:    5 * time.Millisecond,
		Keeps:    true,
		Open: func(testing.TB) Broker {
			broker := membroker.New(&membroker.Options{MaxBatch: 100, MaxBytes: 1 << 20})
			m := &mutant{broker: broker, Publisher: broker.Publisher("school")}
			if b.plant != nil {
				b.plant(m)
			}
			return Broker{Publisher: m, Source: mutantSource{m}}
		},
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
	for _, b := range slices.Concat(publisherBugs(), contentBugs(), feedBugs()) {
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
			o := bug{}.options()
			o.patience = 10 * time.Second
			if r := try(t, o, c); r.failed || r.skipped {
				t.Errorf("%s: %s", c.sentence, r.text.String())
			}
		}
	}
}

func TestCasesOfMissingAbilitiesAreSkipped(t *testing.T) {
	o := Options{Quiet: time.Millisecond, patience: time.Second, Open: func(testing.TB) Broker {
		return Broker{Publisher: membroker.New(nil).Publisher("school")}
	}}
	for _, g := range suite() {
		for _, c := range g.checks {
			r := try(t, o, c)
			if r.failed || g.name != "Publisher" && !r.skipped {
				t.Errorf("%s: skipped is %v; %s", c.sentence, r.skipped, r.text.String())
			}
		}
	}
}

func TestRun(t *testing.T) { Run(t, bug{}.options()) }

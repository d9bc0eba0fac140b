// Package bench measures a store, a broker and a bus over them on this machine, next to what the database and the client of the
// broker do without them, in the same run: the numbers to compare are the ratios.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/edupulse-live/pulse"
)

// Store is what the measurements need of a store: all that keeps subscriptions.
type Store interface {
	pulse.Store
	pulse.Leases
	pulse.Subscriptions
	pulse.Deliveries
	Close() error
}

// Options say what to measure. Open, Broker and Path are required.
type Options struct {
	Path     string                                                  // a file that does not exist; files beside it get its name with a suffix
	Open     func(ctx context.Context, path string) (Store, error)   // opens a store, and creates it
	Broker   func(ctx context.Context, path string) (*Broker, error) // starts an embedded NATS server with its data beside path, and connects to it
	Outside  *Outside                                                // what Broker connects to, when it is no embedded NATS server: then only the sections relay and broker have one
	Postgres *Postgres                                               // where stores are that Open opens; nil for files of SQLite
	Only     []string                                                // sections; nil for all
	Rounds   int                                                     // how often what is compared is measured; default 3
	Time     time.Duration                                           // of one measurement; default 3 seconds
	Waiting  int                                                     // events that wait for a stalled subscription, and for a broker that is down; default 1,000,000
	Backlog  int                                                     // events that wait for the relay; default 500,000
	Keep     bool                                                    // leave the files
	Say      func(format string, args ...any)                        // progress; nil for silence
}

// The sections, in the order in which they run.
const (
	SectionStart   = "start"
	SectionEmit    = "emit"
	SectionHandle  = "handle"
	SectionLatency = "latency"
	SectionStalled = "stalled"
	SectionRelay   = "relay"
	SectionBroker  = "broker"
	SectionDown    = "down"
)

// Sections lists the sections.
func Sections() []string {
	return []string{SectionStart, SectionEmit, SectionHandle, SectionLatency, SectionStalled, SectionRelay, SectionBroker, SectionDown}
}

// Report is what was measured; nil for sections that were left out.
type Report struct {
	Start   *Start   `json:"start,omitempty"`
	Emit    *Emit    `json:"emit,omitempty"`
	Handle  *Handle  `json:"handle,omitempty"`
	Latency *Latency `json:"latency,omitempty"`
	Stalled *Stalled `json:"stalled,omitempty"`
	Relay   *Relay   `json:"relay,omitempty"`
	Broker  *Latency `json:"broker,omitempty"`
	Down    *Down    `json:"down,omitempty"`
}

// Run measures.
func Run(ctx context.Context, opts Options) (*Report, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	b := &bench{Options: opts}
	defer b.clean()
	report := &Report{}
	for _, section := range []struct {
		name string
		run  func(context.Context) error
	}{
		{SectionStart, func(ctx context.Context) (err error) { report.Start, err = b.start(ctx); return err }},
		{SectionEmit, func(ctx context.Context) (err error) { report.Emit, err = b.emit(ctx); return err }},
		{SectionHandle, func(ctx context.Context) (err error) { report.Handle, err = b.handle(ctx); return err }},
		{SectionLatency, func(ctx context.Context) (err error) { report.Latency, err = b.latency(ctx); return err }},
		{SectionStalled, func(ctx context.Context) (err error) { report.Stalled, err = b.stalled(ctx); return err }},
		{SectionRelay, func(ctx context.Context) (err error) { report.Relay, err = b.relay(ctx); return err }},
		{SectionBroker, func(ctx context.Context) (err error) { report.Broker, err = b.throughBroker(ctx); return err }},
		{SectionDown, func(ctx context.Context) (err error) { report.Down, err = b.down(ctx); return err }},
	} {
		if opts.Only != nil && !slices.Contains(opts.Only, section.name) {
			continue
		}
		if err := section.run(ctx); err != nil {
			return nil, fmt.Errorf("bench %s: %w", section.name, err)
		}
	}
	return report, nil
}

// complete checks the options and fills in the defaults.
func (o *Options) complete() error {
	if o.Outside != nil && o.Only == nil {
		o.Only = []string{SectionRelay, SectionBroker}
	}
	for _, name := range o.Only {
		if o.Outside != nil && name == SectionDown {
			return fmt.Errorf("%w: the section %s is for the embedded broker", pulse.ErrInvalid, name)
		}
		if !slices.Contains(Sections(), name) {
			return fmt.Errorf("%w: no section %q: there are %s", pulse.ErrInvalid, name, strings.Join(Sections(), ", "))
		}
	}
	if _, err := os.Stat(o.Path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s exists: give a path where nothing is yet, so that nothing of yours is measured or removed", pulse.ErrInvalid, o.Path)
	}
	if o.Rounds < 0 || o.Time < 0 || o.Waiting < 0 || o.Backlog < 0 {
		return fmt.Errorf("%w: rounds, times and numbers of events cannot be negative", pulse.ErrInvalid)
	}
	if o.Rounds == 0 {
		o.Rounds = 3
	}
	if o.Time == 0 {
		o.Time = 3 * time.Second
	}
	if o.Waiting == 0 {
		o.Waiting = 1_000_000
	}
	if o.Backlog == 0 {
		o.Backlog = 500_000
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	return nil
}

// bench is one run of measurements.
type bench struct {
	Options
	files int
	dirs  []string // of brokers
}

// fresh opens a new store and a bus over it. close closes both and removes the file.
func (b *bench) fresh(ctx context.Context) (bus *pulse.Bus, close func() error, err error) {
	return b.freshOn(ctx, nil)
}

// freshOn is fresh with a logger for the bus; nil for the usual one.
func (b *bench) freshOn(ctx context.Context, logger *slog.Logger) (bus *pulse.Bus, close func() error, err error) {
	path := b.file()
	store, err := b.Open(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	bus, err = pulse.New(store, &pulse.Options{Source: "/bench", Logger: logger})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return bus, func() error {
		err := errors.Join(bus.Close(), store.Close())
		b.remove(path)
		return err
	}, nil
}

// file names the next file: the first is Path itself.
func (b *bench) file() string {
	b.files++
	if b.files == 1 {
		return b.Path
	}
	return fmt.Sprintf("%s.%d", b.Path, b.files)
}

// current names the file of the store that is open.
func (b *bench) current() string {
	b.files--
	return b.file()
}

// clean removes what is left when a measurement was broken off.
func (b *bench) clean() {
	for n := b.files; n > 0; n-- {
		b.files = n - 1
		b.remove(b.file())
	}
	for _, dir := range b.dirs {
		b.removeDir(dir)
	}
}

func (b *bench) removeDir(dir string) {
	if !b.Keep {
		_ = os.RemoveAll(dir) // what is not there need not be removed
	}
}

func (b *bench) remove(path string) {
	if b.Keep {
		return
	}
	if b.Postgres != nil {
		if err := b.Postgres.Remove(context.Background(), path); err != nil {
			b.Say("the schema of %s is still there: %v", path, err)
		}
		return
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(path + suffix) // what is not there need not be removed
	}
}

// median of an odd number of measurements; of an even one, the lower of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// Command brokers measures how fast the relay publishes to each broker, next to its two parts alone: what the client of that broker does with the
// same messages when they are ready to be sent, as many on their way as are best, and what reading and encoding the same rows of SQLite takes. The relay
// does both at once, so it can be as fast as the slower of them. All is measured by turns in the same run, and everything is confirmed. The numbers
// to compare are the ratios.
//
//	go run ./brokers [--events 200000] [--rounds 3] [--only nats,rabbitmq,kafka]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edupulse-live/pulse/internal/bench"
	"github.com/edupulse-live/pulse/sqlitestore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "brokers:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	only   []string // names of entries
	events int      // that wait for the relay
	rounds int
}

// entry is a broker. open starts what it needs, under dir, and says in o what to measure.
type entry struct {
	name string
	open func(ctx context.Context, dir string, o *bench.Options) (*subject, error)
}

// subject is a broker that can be measured.
type subject struct {
	label string
	close func() error
}

// missing says what is not installed.
type missing string

func (m missing) Error() string { return string(m) + " is not installed" }

var entries = []entry{{"nats", openNATS}, {"rabbitmq", openRabbit}, {"kafka", openKafka}}

// run is the command.
func run(ctx context.Context, args []string, out io.Writer) error {
	var s settings
	var names []string
	for _, e := range entries {
		names = append(names, e.name)
	}
	flags := flag.NewFlagSet("brokers", flag.ContinueOnError)
	only := flags.String("only", "", "brokers, with commas between them: "+strings.Join(names, ", "))
	flags.IntVar(&s.events, "events", 200_000, "events that wait for the relay")
	flags.IntVar(&s.rounds, "rounds", 3, "how often the relay and its parts are measured, by turns; medians are printed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s.only = names
	if *only != "" {
		s.only = strings.Split(*only, ",")
	}
	for _, name := range s.only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no broker %q: there are %s", name, strings.Join(names, ", "))
		}
	}
	if s.events < 1 || s.rounds < 1 {
		return errors.New("numbers of events and rounds have to be positive")
	}
	return s.measure(ctx, entries, out)
}

// measure measures one broker after the other and writes the table.
func (s settings) measure(ctx context.Context, entries []entry, out io.Writer) (err error) {
	var t table
	defer func() { err = errors.Join(err, t.print(out)) }() // also of what was broken off
	for _, e := range entries {
		if !slices.Contains(s.only, e.name) {
			continue
		}
		var absent missing
		switch err := s.one(ctx, e, &t); {
		case errors.As(err, &absent):
			t.note("%v: nothing was measured with it", absent)
		case err != nil:
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return nil
}

// one measures one broker.
func (s settings) one(ctx context.Context, e entry, t *table) (err error) {
	dir, err := os.MkdirTemp("", "brokers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o := bench.Options{
		Path:    filepath.Join(dir, "log.db"),
		Open:    func(ctx context.Context, path string) (bench.Store, error) { return sqlitestore.Open(ctx, path, nil) },
		Only:    []string{bench.SectionRelay},
		Rounds:  s.rounds,
		Backlog: s.events,
		Say: func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, e.name+": "+format+"\n", args...) // all of it takes a minute or two
		},
	}
	b, err := e.open(ctx, dir, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	report, err := bench.Run(ctx, o)
	if err != nil {
		return err
	}
	t.add(b, report.Relay)
	return nil
}

// Command rivals measures Pulse on PostgreSQL and JetStream next to what others offer for the same work, in turn on the same server of
// its own: Watermill's outbox and forwarder, River, an outbox with SKIP LOCKED, plain inserts, and a sketch of what Pulse does
// without what it promises. The numbers to compare are the ratios.
//
//	go run ./rivals [--only emit,end] [--rounds 3] [--time 3s] [--json FILE]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "rivals:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	only    []string
	rounds  int
	time    time.Duration
	backlog int           // events that wait for the relay
	stored  int           // events that are stored before the section large
	ahead   int64         // events that may be emitted and not handled
	held    time.Duration // that transactions stay open
	profile string        // directory for CPU profiles

	connections int  // of an application
	unsynced    bool // nothing waits for the disk: for tests
}

// connections is how many connections of its own an application has.
const connections = 64

// sections are the measurements, in their order.
var sections = []struct {
	name string
	run  func(context.Context, *bench) error
}{
	{"emit", measureEmit},
	{"tx", measureTx},
	{"end", measureEnd},
	{"tx100", measureTx100},
	{"tx1", measureTx1},
	{"drain", measureDrain},
	{"latency", measureLatency},
	{"large", measureLarge},
	{"open", measureOpen},
	{"snapshot", measureSnapshot},
}

// onDemand are the sections that take so long that they are measured only when they are named.
var onDemand = []string{"large", "open", "snapshot"}

// snapshotTimes is how many times longer a snapshot is held than other transactions.
const snapshotTimes = 10

// run is the command.
func run(ctx context.Context, args []string, out io.Writer) error {
	s := settings{connections: connections}
	names := make([]string, len(sections))
	for i, section := range sections {
		names[i] = section.name
	}
	flags := flag.NewFlagSet("rivals", flag.ContinueOnError)
	only := flags.String("only", "", "sections, with commas between them: "+strings.Join(names, ", ")+"; only when they are named "+strings.Join(onDemand, ", "))
	file := flags.String("json", "", "file to write the numbers to")
	flags.IntVar(&s.rounds, "rounds", 3, "how often each contestant is measured, by turns")
	flags.DurationVar(&s.time, "time", 3*time.Second, "length of one measurement")
	flags.IntVar(&s.backlog, "backlog", 1_000_000, "events that wait for the relay in the section drain")
	flags.IntVar(&s.stored, "stored", 5_000_000, "events that are stored before the section large")
	flags.Int64Var(&s.ahead, "ahead", 10_000, "how many events may be emitted and not handled yet")
	flags.DurationVar(&s.held, "held", time.Minute, "how long transactions stay open in the section open; ten times as long in snapshot")
	flags.StringVar(&s.profile, "profile", "", "directory for a CPU profile of each measurement of Pulse")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *only != "" {
		s.only = strings.Split(*only, ",")
	}
	for _, name := range s.only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no section %q: there are %s", name, strings.Join(names, ", "))
		}
	}
	if s.rounds < 1 || s.time <= 0 || s.backlog < 1 || s.stored < 1 || s.ahead < 1 || s.held <= 0 {
		return errors.New("rounds, times and numbers of events have to be positive")
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	return measure(ctx, s, out, *file)
}

// measure measures what the settings name, writes tables to out and all numbers to file.
func measure(ctx context.Context, s settings, out io.Writer, file string) (err error) {
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	defer func() { // also of what was broken off
		b.report.print(out)
		err = errors.Join(err, b.report.write(file))
	}()
	for _, section := range sections {
		wanted := slices.Contains(s.only, section.name) || s.only == nil && !slices.Contains(onDemand, section.name)
		if !wanted {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s …\n", section.name) // all of it takes many minutes
		b.report.live = os.Stderr
		if err := section.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", section.name, err)
		}
	}
	return nil
}

// write writes the numbers as JSON; "" writes nothing.
func (r *report) write(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

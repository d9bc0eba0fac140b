package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edupulse-live/pulse"
)

// Verdict is what a check of the doctor found.
type Verdict string

// The verdicts.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // works, but somebody should look at it
	Fail Verdict = "fail"
)

// Finding is the answer of one check.
type Finding struct {
	Check   string
	Verdict Verdict
	Detail  string // what was found, and what to do
}

// What the doctor thinks of as little space, and as a long way behind.
const (
	warnFreeSpace = 1 << 30
	failFreeSpace = 64 << 20
	warnLag       = 10_000
)

// Doctor opens the store that cfg names and checks it. It tells of each finding as soon as it has it. The error is that of ctx, or of tell.
func Doctor(ctx context.Context, cfg Config, opts OpenOptions, tell func(Finding) error) error {
	d := &doctor{tell: tell, logger: opts.Logger}
	if cfg.Store.Kind == KindPostgres && !d.postgres(ctx, cfg.Store, longTransaction) {
		return errors.Join(d.err, ctx.Err())
	}
	a, err := Open(ctx, cfg, opts)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.found("store", Fail, "%v", err)
		return d.err
	}
	d.app = a
	err = d.examine(ctx)
	return errors.Join(err, a.Close())
}

// doctor checks an open store.
type doctor struct {
	app    *App
	info   pulse.Info
	logger *slog.Logger
	tell   func(Finding) error
	err    error // of tell
}

func (d *doctor) found(check string, v Verdict, format string, args ...any) {
	if d.err == nil {
		d.err = d.tell(Finding{check, v, fmt.Sprintf(format, args...)})
	}
}

func (d *doctor) examine(ctx context.Context) error {
	err := d.each(ctx, d.store, d.space, d.integrity)
	if err != nil || d.info.Origin == "" { // the log could not be looked at, with which the others compare
		return err
	}
	return d.each(ctx, d.sequence, d.subscriptions, d.broker)
}

// each carries out checks until ctx ends or nobody can be told.
func (d *doctor) each(ctx context.Context, checks ...func(context.Context)) error {
	for _, check := range checks {
		check(ctx)
		if d.err != nil {
			return d.err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// store reports what Open has already proved: that the file is a store of a version this program knows.
func (d *doctor) store(ctx context.Context) {
	info, err := d.app.Store.Info(ctx)
	if err != nil {
		d.found("store", Fail, "%v", err)
		return
	}
	d.info = info
	size := ""
	if st, err := os.Stat(d.app.Config.Store.Path); err == nil {
		size = ", " + showBytes(uint64(st.Size()))
	}
	d.found("store", OK, "%s opens%s, origin %s, %s", d.app.Config.Store, size, info.Origin, many(int64(info.Head), "event"))
}

func (d *doctor) space(context.Context) {
	if d.app.Config.Store.Kind != KindSQLite {
		return // its disk is not to be seen from here
	}
	free, known := freeSpace(filepath.Dir(d.app.Config.Store.Path))
	switch {
	case !known:
	case free < failFreeSpace:
		d.found("space", Fail, "only %s free on the disk: emitting is about to fail, make room", showBytes(free))
	case free < warnFreeSpace:
		d.found("space", Warn, "only %s free on the disk: make room before it is full", showBytes(free))
	default:
		d.found("space", OK, "%s free on the disk", showBytes(free))
	}
}

// integrityChecker is the ability of a store to look for damage in what it is kept in.
type integrityChecker interface {
	CheckIntegrity(ctx context.Context) error
}

func (d *doctor) integrity(ctx context.Context) {
	store, ok := d.app.Store.(integrityChecker)
	if !ok {
		return
	}
	if err := store.CheckIntegrity(ctx); err != nil {
		d.found("integrity", Fail, "%v", err)
		return
	}
	d.found("integrity", OK, "the file is sound")
}

func (d *doctor) subscriptions(ctx context.Context) {
	states, err := d.app.Bus.Subscriptions(ctx)
	if err != nil {
		d.found("subscriptions", Fail, "%v", err)
		return
	}
	if len(states) == 0 {
		d.found("subscriptions", OK, "there are none")
	}
	for i := range states {
		d.subscription(ctx, &states[i])
		d.source(states, &states[i])
	}
}

// source looks whether the broker that feeds a subscription is itself fed.
func (d *doctor) source(states []pulse.SubscriptionState, s *pulse.SubscriptionState) {
	relay := pulse.RelayName(s.Source)
	if s.Source != "" && !slices.ContainsFunc(states, func(r pulse.SubscriptionState) bool { return r.Name == relay }) {
		d.found("subscription "+s.Name, Warn, "it reads from the destination %s, to which nothing is published: run pulse serve, or Publish in an application", s.Source)
	}
}

// subscription tells the worst about a subscription first, and all of it.
func (d *doctor) subscription(ctx context.Context, s *pulse.SubscriptionState) {
	check, parked, noun := "subscription "+s.Name, "%s: pulse dead list %s", "dead letter"
	destination, relay := strings.CutPrefix(s.Name, pulse.RelayName(""))
	if relay {
		check, parked, noun = "destination "+destination, "the broker refused %s: pulse dead list %s", "event"
	}
	sound := true
	say := func(v Verdict, format string, args ...any) {
		sound = false
		d.found(check, v, format, args...)
	}
	idle := "nothing runs it: start the application that subscribes"
	mend := "replay the subscription from a position you trust, or restore the newer log"
	if relay {
		idle = "nothing publishes: start pulse serve, or the application that does"
		mend = "restore the newer log; or, to publish this one from its beginning, give it an empty place at the broker and pulse subscription drop " + s.Name
	}
	if why := d.diverged(ctx, s); why != "" {
		say(Fail, "%s: the log was restored or replaced; %s", why, mend)
	}
	switch lag := s.Lag(); {
	case lag > 0 && s.Holder == "" && !Pausing(s):
		say(Warn, "%s behind, and %s", many(lag, "event"), idle)
	case lag > warnLag:
		say(Warn, "%s behind: is it fast enough?", many(lag, "event"))
	}
	switch {
	case s.PausedUntil.Equal(pulse.Forever) && strings.HasPrefix(s.PauseReason, pulse.ErrDiverged.Error()):
		say(Fail, "stopped itself (%s): once that is mended, pulse subscription resume %s", s.PauseReason, s.Name)
	case s.PausedUntil.Equal(pulse.Forever):
		say(Warn, "paused (%s): pulse subscription resume %s", reasonOr(s.PauseReason), s.Name)
	case Pausing(s):
		say(Warn, "paused until %s (%s)", s.PausedUntil.UTC().Format(time.RFC3339), reasonOr(s.PauseReason))
	}
	if s.Blocked > 0 {
		say(Warn, "%s held up, %d waiting behind", many(int64(s.Blocked), "key"), s.Waiting)
	}
	if s.Dead > 0 {
		say(Warn, parked, many(int64(s.Dead), noun), s.Name)
	}
	if sound {
		d.found(check, OK, "%s behind", many(s.Lag(), "event"))
	}
}

// Pausing reports whether a subscription is paused, or pauses by itself again and again: between two tries that fail it is not.
func Pausing(s *pulse.SubscriptionState) bool {
	const between = 2 * time.Second
	now := time.Now()
	return s.PausedUntil.After(now) || s.PausedUntil.After(now.Add(-between)) && s.Lag() > 0
}

// diverged says how the place of a subscription contradicts the log, "" when it does not.
func (d *doctor) diverged(ctx context.Context, s *pulse.SubscriptionState) string {
	switch {
	case s.Lag() < 0:
		return fmt.Sprintf("it has handled up to position %d, but the log ends at %d", s.Cursor.Position, s.Head)
	case s.Cursor.Epoch > d.info.Epoch:
		return fmt.Sprintf("it has seen epoch %d, but the log is in epoch %d", s.Cursor.Epoch, d.info.Epoch)
	case s.Cursor.Position == 0 || s.Cursor.Commitment == [32]byte{}:
		return ""
	}
	page, err := d.app.Store.Read(ctx, pulse.Query{After: s.Cursor.Position - 1, Through: s.Cursor.Position})
	if err == nil && len(page.Envelopes) == 1 && page.Envelopes[0].Commitment != s.Cursor.Commitment {
		return fmt.Sprintf("the event at position %d is not the one it has handled", s.Cursor.Position)
	}
	return ""
}

func reasonOr(reason string) string {
	if reason == "" {
		return "no reason given"
	}
	return reason
}

// many is a number of things.
func many(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.FormatInt(n, 10) + " " + thing + "s"
}

func showBytes(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 4 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[prefix])
}

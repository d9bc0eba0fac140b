package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
)

// filter is the flags that select events of the log.
type filter struct {
	names        []string
	key, actor   string
	correlation  string
	since, until string
	after        int64
	limit        int
}

func (f *filter) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.names, "name", nil, "only events of this `NAME` or pattern, lesson.* or lesson.>; may be repeated")
	flags.StringVar(&f.key, "key", "", "only events of this ordering `KEY`")
	flags.StringVar(&f.actor, "actor", "", "only events this actor triggered, a `UUID`")
	flags.StringVar(&f.correlation, "correlation", "", "only events of this correlation `ID`")
	flags.StringVar(&f.since, "since", "", "only what happened at or after `TIME`: 2h, 7d, 2026-11-23 or RFC 3339")
	flags.StringVar(&f.until, "until", "", "only what happened before `TIME`")
	numberVar(flags, &f.after, "after", 0, "only positions after `POSITION`")
	numberVar(flags, &f.limit, "limit", 1, "at most `N` events (default all)")
}

// query is what the flags select. now is what relative times count from.
func (f *filter) query(now time.Time) (pulse.Query, error) {
	q := pulse.Query{Names: f.names, Key: f.key, Correlation: f.correlation, After: pulse.Position(f.after), Limit: f.limit}
	for _, name := range f.names {
		if err := pulse.ValidatePattern(name); err != nil {
			return q, usagef("--name: %w", err)
		}
	}
	var err error
	if q.Actor, err = parseUUID("--actor", f.actor); err != nil {
		return q, err
	}
	if q.Since, err = parseTime("--since", f.since, now); err != nil {
		return q, err
	}
	if q.Until, err = parseTime("--until", f.until, now); err != nil {
		return q, err
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, usagef("--since %s is not before --until %s: nothing could match", f.since, f.until)
	}
	return q, nil
}

// parseUUID reads a UUID in its usual form; "" is uuid.Nil.
func parseUUID(what, s string) (uuid.UUID, error) {
	if s == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return uuid.Nil, usagef("%s %q is no UUID: write it like 0190c1f2-8a3b-7cde-9f01-23456789abcd", what, s)
	}
	return id, nil
}

// parseTime reads a point in time, or how long ago it was; "" is the zero time.
func parseTime(what, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	if ago, err := parseAgo(s); err == nil {
		return now.Add(-ago), nil
	}
	return time.Time{}, usagef("%s %q is no time: write how long ago (90s, 2h, 7d), a day (2026-11-23, UTC) or RFC 3339 (2026-11-23T08:00:00Z)", what, s)
}

func parseAgo(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%s lies in the future", s)
	}
	return d, err
}

package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// apart parts relays, by the names of their destinations, from subscriptions.
func apart(states []pulse.SubscriptionState) (relays, subscriptions []pulse.SubscriptionState) {
	for _, s := range states {
		if destination, ok := strings.CutPrefix(s.Name, pulse.RelayName("")); ok {
			s.Name = destination
			relays = append(relays, s)
		} else {
			subscriptions = append(subscriptions, s)
		}
	}
	return relays, subscriptions
}

// findDestination returns the state of the relay of a destination, or an error that says which there are.
func findDestination(ctx context.Context, a *app.App, name string) (pulse.SubscriptionState, error) {
	states, err := a.Bus.Subscriptions(ctx)
	if err != nil {
		return pulse.SubscriptionState{}, err
	}
	relays, _ := apart(states)
	names := make([]string, 0, len(relays))
	for _, r := range relays {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	if len(names) == 0 {
		return pulse.SubscriptionState{}, notFoundf("nothing was ever published from this store: run pulse serve")
	}
	return pulse.SubscriptionState{}, notFoundf("no destination %q: there are %s", name, strings.Join(names, ", "))
}

// completeDestinations offers the names of destinations to the shell.
func (env *environment) completeDestinations(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return env.completeNames(cmd, func(states []pulse.SubscriptionState) []pulse.SubscriptionState {
		relays, _ := apart(states)
		return relays
	})
}

// oldestUnpublished returns for each relay when the first event that it has not published was recorded; the zero time when there
// is none, or when the log does not reach that far.
func oldestUnpublished(ctx context.Context, a *app.App, relays []pulse.SubscriptionState) ([]time.Time, error) {
	all := make([]time.Time, len(relays))
	for i := range relays {
		if relays[i].Lag() <= 0 {
			continue
		}
		page, err := a.Store.Read(ctx, pulse.Query{After: relays[i].Cursor.Position, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(page.Envelopes) > 0 {
			all[i] = page.Envelopes[0].RecordedAt
		}
	}
	return all, nil
}

// printDestinations prints a table of relays, and what to do about refused events under it.
func (env *environment) printDestinations(relays []pulse.SubscriptionState, oldest []time.Time) error {
	t := env.newTable(
		column{title: "DESTINATION", most: 40}, column{title: "CURSOR", right: true}, column{title: "LAG", right: true}, column{title: "OLDEST", right: true},
		column{title: "WAITING", right: true}, column{title: "BLOCKED", right: true}, column{title: "PARKED", right: true}, column{title: "STATE"})
	for i := range relays {
		s := &relays[i]
		t.add(printable(s.Name), strconv.FormatInt(int64(s.Cursor.Position), 10), strconv.FormatInt(s.Lag(), 10), showAge(oldest[i]),
			strconv.Itoa(s.Retries+s.Waiting), strconv.Itoa(s.Blocked), strconv.Itoa(s.Dead), showState(s))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for i := range relays {
		s := &relays[i]
		if s.Dead > 0 {
			env.notef("%s refuses %s: pulse dead list %s", printable(s.Name), count(s.Dead, "event"), pulse.RelayName(printable(s.Name)))
		}
		env.warnAhead(s)
	}
	return nil
}

// showAge says how long ago t was, "-" when it never was.
func showAge(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	age := max(time.Since(t), 0)
	if age < time.Minute {
		return strconv.Itoa(int(age.Seconds())) + "s"
	}
	return strings.TrimSuffix(age.Truncate(time.Minute).String(), "0s")
}

// destinationJSON is a relay of --json.
type destinationJSON struct {
	Name        string         `json:"name"`
	Cursor      pulse.Position `json:"cursor"`
	Lag         int64          `json:"lag"`
	Oldest      *time.Time     `json:"oldest_unpublished,omitempty"` // when it was recorded
	Waiting     int            `json:"waiting"`
	BlockedKeys int            `json:"blocked_keys"`
	Parked      int            `json:"parked"`
	pausedJSON
	Holder string `json:"holder,omitempty"`
}

func toDestinationJSON(s *pulse.SubscriptionState, oldest time.Time) destinationJSON {
	j := destinationJSON{
		Name: s.Name, Cursor: s.Cursor.Position, Lag: s.Lag(), Waiting: s.Retries + s.Waiting, BlockedKeys: s.Blocked, Parked: s.Dead,
		pausedJSON: toPausedJSON(s), Holder: s.Holder,
	}
	if !oldest.IsZero() {
		oldest = oldest.UTC()
		j.Oldest = &oldest
	}
	return j
}

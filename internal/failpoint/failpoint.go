// Package failpoint lets crash tests stop a process, fail a call or slow it down at a named point of its way.
package failpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// The points a Store has. At a point "before" nothing has happened yet; at "after" it has, and the caller does not know.
const (
	AppendBefore   = "append.before"
	AppendAfter    = "append.after"
	TransactBefore = "transact.before"
	// TransactAfterHandler is inside the transaction: its function returned nil, nothing is committed.
	TransactAfterHandler = "transact.afterHandler"
	TransactAfter        = "transact.after"
	AdvanceBefore        = "advance.before"
	AdvanceAfter         = "advance.after"
	LeaseBefore          = "lease.before"
	LeaseAfter           = "lease.after"
)

// Names lists the points of a Store.
func Names() []string {
	return []string{
		AppendBefore, AppendAfter, TransactBefore, TransactAfterHandler, TransactAfter,
		AdvanceBefore, AdvanceAfter, LeaseBefore, LeaseAfter,
	}
}

// ErrInjected is the error of a point with the action "error".
var ErrInjected = errors.New("failpoint")

// Points are armed points. A nil *Points has none.
type Points struct {
	armed []*armed
	kill  func() // ends the process at once
	sleep func(time.Duration)
}

// armed is one point with its action.
type armed struct {
	name   string
	action string
	wait   time.Duration
	nth    int64 // act at this hit only; 0 for each
	hits   atomic.Int64
}

// Parse reads a comma separated list of POINT=ACTION or POINT=ACTION@N, which acts at the Nth hit only. Actions are
// kill (SIGKILL to this process), error, panic, and sleep:DURATION. The empty list is nil.
func Parse(list string) (*Points, error) {
	if list == "" {
		return nil, nil
	}
	p := &Points{kill: killSelf, sleep: time.Sleep}
	var errs []error
	for entry := range strings.SplitSeq(list, ",") {
		a, err := parseEntry(strings.TrimSpace(entry))
		if err != nil {
			errs = append(errs, err)
		}
		p.armed = append(p.armed, a)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

func parseEntry(entry string) (*armed, error) {
	name, action, found := strings.Cut(entry, "=")
	if !found {
		return nil, fmt.Errorf("failpoint %q: write POINT=ACTION, such as append.after=kill", entry)
	}
	if all := slices.Concat(Names(), PublisherNames(), SourceNames()); !slices.Contains(all, name) {
		return nil, fmt.Errorf("failpoint %q: no point %q: there are %s", entry, name, strings.Join(all, ", "))
	}
	a := &armed{name: name}
	action, nth, limited := strings.Cut(action, "@")
	var err error
	if limited {
		if a.nth, err = strconv.ParseInt(nth, 10, 64); err != nil || a.nth < 1 {
			return nil, fmt.Errorf("failpoint %q: %q is no count of hits: give 1 or more after @", entry, nth)
		}
	}
	var wait string
	a.action, wait, _ = strings.Cut(action, ":")
	switch {
	case a.action == "sleep":
		if a.wait, err = time.ParseDuration(wait); err != nil || a.wait < 0 {
			return nil, fmt.Errorf("failpoint %q: %q is no duration: write sleep:100ms", entry, wait)
		}
	case wait != "" || !slices.Contains([]string{"kill", "error", "panic"}, action):
		return nil, fmt.Errorf("failpoint %q: no action %q: there are kill, error, panic, sleep:DURATION", entry, action)
	}
	return a, nil
}

// Hit acts when the point is armed.
func (p *Points) Hit(name string) error {
	if p == nil {
		return nil
	}
	var err error
	for _, a := range p.armed {
		if a.name != name {
			continue
		}
		hit := a.hits.Add(1) // counted also when another entry acts
		if err == nil && (a.nth == 0 || a.nth == hit) {
			err = p.act(a)
		}
	}
	return err
}

func (p *Points) act(a *armed) error {
	switch a.action {
	case "kill":
		p.kill()
	case "panic":
		panic("failpoint " + a.name)
	case "sleep":
		p.sleep(a.wait)
	case "error":
		return fmt.Errorf("%w: %s", ErrInjected, a.name)
	}
	return nil
}

// killSelf ends the process without any last word, as a crash does.
func killSelf() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Signal(syscall.SIGKILL) // when this fails the process lives, and the test that waits for its end says so
	}
	select {} // not one instruction further
}

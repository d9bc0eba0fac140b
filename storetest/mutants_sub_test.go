package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// unfenced plants writes that ask for no more than that there is a lease.
func unfenced(m *mutant) {
	current := track(m)
	m.onAdvance = func(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
		return m.Store.Advance(ctx, current(lease.Name), p)
	}
	m.onMark = func(ctx context.Context, tx pulse.Tx, lease pulse.Lease, positions []pulse.Position) ([]pulse.Position, error) {
		return tx.Mark(ctx, current(lease.Name), positions)
	}
}

// track returns a function that knows the current lease of each name. It sets onAcquire.
func track(m *mutant) func(name string) pulse.Lease {
	leases := make(map[string]pulse.Lease)
	m.onAcquire = func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
		got, err := m.Store.Acquire(ctx, lease, ttl)
		if err == nil {
			leases[got.Name] = got
		}
		return got, err
	}
	return func(name string) pulse.Lease { return leases[name] }
}

// onSeen plants a change of what Mark answers.
func onSeen(change func(m *mutant, lease pulse.Lease, positions, seen []pulse.Position) []pulse.Position) func(m *mutant) {
	return func(m *mutant) {
		m.onMark = func(ctx context.Context, tx pulse.Tx, lease pulse.Lease, positions []pulse.Position) ([]pulse.Position, error) {
			seen, err := tx.Mark(ctx, lease, positions)
			return change(m, lease, positions, seen), err
		}
	}
}

// cursor is the position up to which a subscription is done.
func (m *mutant) cursor(name string) pulse.Position {
	states, _ := m.Store.States(context.Background())
	for _, s := range states {
		if s.Name == name {
			return s.Cursor.Position
		}
	}
	return 0
}

const seenSentence = "Control of what has changed since it was Seen is an ErrFenced and changes nothing"

const beyondSentence = "Replay from beyond the next event is an ErrInvalid and changes nothing"

func markBugs() []bug {
	type all = map[pulse.Position]bool
	return []bug{
		{"the inbox is never looked at", onSeen(func(*mutant, pulse.Lease, []pulse.Position, []pulse.Position) []pulse.Position { return nil }), []string{
			"Mark returns what was seen before", "Mark returns what lies at or below the cursor", "Mark and effects commit together",
			"Mark returns a position that its own transaction marked before", "concurrent transactions that mark one delivery have its effect once",
			"Mark of a delivery with a row is remembered while the cursor moves on", "each subscription has an inbox of its own",
		}},
		{"everything is always seen", onSeen(func(_ *mutant, _ pulse.Lease, positions, _ []pulse.Position) []pulse.Position {
			return append([]pulse.Position{1}, positions...)
		}), []string{"Mark of no positions returns none", "Mark returns what was seen before"}},
		{"the cursor is not looked at", onSeen(func(m *mutant, lease pulse.Lease, _, seen []pulse.Position) []pulse.Position {
			return slices.DeleteFunc(seen, func(p pulse.Position) bool { return p <= m.cursor(lease.Name) })
		}), []string{"Mark returns what lies at or below the cursor"}},
		{"rows below the cursor are not looked at", onSeen(func(m *mutant, lease pulse.Lease, positions, seen []pulse.Position) []pulse.Position {
			for _, p := range positions {
				if p <= m.cursor(lease.Name) && !slices.Contains(seen, p) {
					seen = append(seen, p)
				}
			}
			return seen
		}), []string{"Mark does not return a delivery below the cursor that still has a row"}},
		{"the inbox is pruned below the cursor, rows or not", onSeen(func(m *mutant, lease pulse.Lease, _, seen []pulse.Position) []pulse.Position {
			rows, _ := m.Store.List(context.Background(), pulse.DeliveryQuery{Subscription: lease.Name})
			return slices.DeleteFunc(seen, func(p pulse.Position) bool {
				return slices.ContainsFunc(rows, func(r pulse.DeliveryState) bool { return r.Position == p })
			})
		}), []string{"Mark of a delivery with a row is remembered while the cursor moves on"}},
		{"marks commit at once", func(m *mutant) {
			m.onMark = func(ctx context.Context, _ pulse.Tx, lease pulse.Lease, positions []pulse.Position) (seen []pulse.Position, err error) {
				err = m.Store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error {
					seen, err = tx.Mark(ctx, lease, positions)
					return err
				})
				return seen, err
			}
		}, []string{
			"Mark and effects commit together", "marks of a rolled back transaction are gone", "a transaction that marked does not commit after its lease was lost",
		}},
		{"there is one inbox for all", func(m *mutant) {
			marked := make(all)
			onSeen(func(_ *mutant, _ pulse.Lease, positions, _ []pulse.Position) (seen []pulse.Position) {
				for _, p := range positions {
					if marked[p] {
						seen = append(seen, p)
					}
					marked[p] = true
				}
				return seen
			})(m)
		}, []string{"each subscription has an inbox of its own", "a replay starts with an empty inbox", "Drop removes the subscription and all it left", "marks of a rolled back transaction are gone"}},
		{"Mark is not fenced", unfenced, []string{"Mark needs the current lease"}},
	}
}

func leaseBugs() []bug {
	eachLease := func(change func(asked pulse.Lease, got *pulse.Lease)) func(m *mutant) {
		return func(m *mutant) {
			m.onAcquire = func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
				got, err := m.Store.Acquire(ctx, lease, ttl)
				change(lease, &got)
				return got, err
			}
		}
	}
	return []bug{
		{"a lease is given to everyone", func(m *mutant) {
			m.onAcquire = func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
				holder := lease.Holder
				got, err := m.Store.Acquire(ctx, lease, ttl)
				if errors.Is(err, pulse.ErrHeld) {
					states, _ := m.Store.States(ctx)
					lease.Holder = states[0].Holder
					got, err = m.Store.Acquire(ctx, lease, ttl)
					got.Holder = holder
				}
				return got, err
			}
		}, []string{"a lease is exclusive", "one of several instances takes a free lease", "a lease is held after reopening"}},
		{"there is one lease for all", func(m *mutant) {
			m.onAcquire = func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
				lease.Name = "mailer"
				return m.Store.Acquire(ctx, lease, ttl)
			}
		}, []string{"each subscription has a lease of its own"}},
		{"taking a lease registers the subscription", func(m *mutant) {
			m.onAcquire = func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
				if _, err := m.Store.Register(ctx, pulse.Registration{Name: lease.Name, Start: pulse.Beginning}); err != nil {
					return lease, err
				}
				return m.Store.Acquire(ctx, lease, ttl)
			}
		}, []string{"a lease needs a registered subscription"}},
		{
			"renewing cleans the lease", eachLease(func(asked pulse.Lease, got *pulse.Lease) { got.Unclean = got.Unclean && asked.Token == 0 }),
			[]string{"renewing keeps Token, Generation and Unclean, and the lease"},
		},
		{"renewing gives a new token", eachLease(func(asked pulse.Lease, got *pulse.Lease) {
			if asked.Token != 0 {
				got.Token++
			}
		}), []string{"renewing keeps Token, Generation and Unclean, and the lease"}},
		{
			"the lease tells no Revision", eachLease(func(_ pulse.Lease, got *pulse.Lease) { got.Revision = 0 }),
			[]string{"a lease tells the Revision of when it was taken or last renewed"},
		},
		{"every lease is clean", eachLease(func(_ pulse.Lease, got *pulse.Lease) { got.Unclean = false }), []string{
			"an expired lease can be taken, with a greater token, and is unclean", "Unclean stays until a holder releases",
			"taking again under the same holder fences the former lease",
		}},
		{"every lease is unclean", eachLease(func(_ pulse.Lease, got *pulse.Lease) { got.Unclean = true }), []string{
			"a lease is exclusive", "a released lease can be taken at once, with a greater token, and is clean",
		}},
		{"tokens do not grow", eachLease(func(_ pulse.Lease, got *pulse.Lease) { got.Token = 1 }), []string{
			"an expired lease can be taken, with a greater token, and is unclean",
			"a released lease can be taken at once, with a greater token, and is clean",
		}},
		{"renewing does not prolong", func(m *mutant) {
			m.onAcquire = func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
				if lease.Token != 0 && ttl == long {
					return lease, nil
				}
				return m.Store.Acquire(ctx, lease, ttl)
			}
		}, []string{"a renewed lease does not expire at its first time", "who took over fences the former holder"}},
		{"releasing does nothing", func(m *mutant) {
			m.onRelease = func(context.Context, pulse.Lease) error { return nil }
		}, []string{"a released lease can be taken at once, with a greater token, and is clean", "who released is fenced", "Unclean stays until a holder releases"}},
		{"anyone can release", func(m *mutant) {
			current := track(m)
			m.onRelease = func(ctx context.Context, lease pulse.Lease) error { return m.Store.Release(ctx, current(lease.Name)) }
		}, []string{"releasing a lost lease does nothing"}},
		{"writes are not fenced", unfenced, []string{
			"who took over fences the former holder", "taking again under the same holder fences the former lease",
			"a lease from before a Drop stays fenced when the name is used again", "Advance that is fenced writes nothing",
		}},
		{"taking again renews", func(m *mutant) {
			leases := make(map[string]pulse.Lease)
			m.onAcquire = func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
				if own, ok := leases[lease.Name+lease.Holder]; ok {
					return own, nil
				}
				got, err := m.Store.Acquire(ctx, lease, ttl)
				leases[lease.Name+lease.Holder] = got
				return got, err
			}
		}, []string{"taking again under the same holder fences the former lease"}},
	}
}

// eachState plants a change of every state that is given out.
func eachState(change func(s *pulse.SubscriptionState)) func(m *mutant) {
	return func(m *mutant) {
		m.onStates = func(ctx context.Context) ([]pulse.SubscriptionState, error) {
			states, err := m.Store.States(ctx)
			for i := range states {
				change(&states[i])
			}
			return states, err
		}
	}
}

// ignored plants a Control that does nothing where it is told to.
func ignored(which func(c pulse.Control) bool) func(m *mutant) {
	return func(m *mutant) {
		m.onControl = func(ctx context.Context, name string, c pulse.Control) error {
			if which(c) {
				return nil
			}
			return m.Store.Control(ctx, name, c)
		}
	}
}

func controlBugs() []bug {
	return []bug{
		{"the cursor is set at start", func(m *mutant) {
			m.onRegister = func(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
				if r.Start > 0 {
					r.Start++
				}
				return m.Store.Register(ctx, r)
			}
		}, []string{"Register sets the cursor before start"}},
		{"now is the beginning", func(m *mutant) {
			m.onRegister = func(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
				r.Start = max(r.Start, pulse.Beginning)
				return m.Store.Register(ctx, r)
			}
		}, []string{"Register from Now means after the present head"}},
		{"a start beyond the log is taken for now", func(m *mutant) {
			m.onRegister = func(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
				state, err := m.Store.Register(ctx, r)
				if errors.Is(err, pulse.ErrInvalid) && r.Start > 0 {
					r.Start = pulse.Now
					return m.Store.Register(ctx, r)
				}
				return state, err
			}
		}, []string{"Register beyond the next event is an ErrInvalid and creates nothing"}},
		{"a start beyond the log is refused when it is there already", func(m *mutant) {
			m.onRegister = func(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
				state, err := m.Store.Register(ctx, r)
				_ = m.Store.Control(ctx, r.Name, pulse.Control{Drop: true})
				if _, refused := m.Store.Register(ctx, r); refused != nil {
					return state, refused
				}
				return state, err
			}
		}, []string{"Register beyond the next event is an ErrInvalid and creates nothing"}},
		{"a replay from beyond the log is taken for one from now", func(m *mutant) {
			m.onControl = func(ctx context.Context, name string, c pulse.Control) error {
				err := m.Store.Control(ctx, name, c)
				if errors.Is(err, pulse.ErrInvalid) {
					return m.Store.Control(ctx, name, pulse.Control{Replay: &pulse.Replay{From: 4}})
				}
				return err
			}
		}, []string{beyondSentence}},
		{"a replay from beyond the log is refused when it has begun", func(m *mutant) {
			m.onControl = func(ctx context.Context, name string, c pulse.Control) error {
				err := m.Store.Control(ctx, name, c)
				if errors.Is(err, pulse.ErrInvalid) {
					_ = m.Store.Control(ctx, name, pulse.Control{Replay: &pulse.Replay{From: 4}})
				}
				return err
			}
		}, []string{beyondSentence}},
		{"registering again starts again", func(m *mutant) {
			m.onRegister = func(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
				_ = m.Store.Control(ctx, r.Name, pulse.Control{Drop: true})
				return m.Store.Register(ctx, r)
			}
		}, []string{"Register of an existing subscription returns what is stored and changes nothing"}},
		{"the source of a subscription is forgotten", func(m *mutant) {
			m.onRegister = func(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
				r.Source = ""
				return m.Store.Register(ctx, r)
			}
		}, []string{"Register keeps the source, and replaces that of an existing subscription"}},
		{"subscriptions come in any order", func(m *mutant) {
			m.onStates = func(ctx context.Context) ([]pulse.SubscriptionState, error) {
				states, err := m.Store.States(ctx)
				slices.Reverse(states)
				return states, err
			}
		}, []string{"States returns all subscriptions by name"}},
		{
			"a negative lag is hidden", eachState(func(s *pulse.SubscriptionState) { s.Head = max(s.Head, s.Cursor.Position) }),
			[]string{"a cursor ahead of the log shows as a negative lag"},
		},
		{
			"a pause is kept in seconds", eachState(func(s *pulse.SubscriptionState) { s.PausedUntil = s.PausedUntil.Truncate(time.Second) }),
			[]string{"a pause is kept until a time, with its reason"},
		},
		{"forever is not kept", eachState(func(s *pulse.SubscriptionState) {
			if s.PausedUntil.Equal(pulse.Forever) {
				s.PausedUntil = time.Time{}
			}
		}), []string{"a pause can be forever"}},
		{"a resumed subscription keeps its reason", func(m *mutant) {
			reason := ""
			m.onControl = func(ctx context.Context, name string, c pulse.Control) error {
				if c.Pause != nil {
					reason = c.Pause.Reason
				}
				return m.Store.Control(ctx, name, c)
			}
			eachState(func(s *pulse.SubscriptionState) { s.PauseReason = reason })(m)
		}, []string{"Resume ends a pause"}},
		{"a replay keeps the generation", ignored(func(c pulse.Control) bool { return c.Replay != nil }), []string{
			"Replay starts a new generation before From, without deliveries", "Replay fences the writes of the lease taken before",
			"a replay starts with an empty inbox", "each Control grows the Revision",
		}},
		{"a replay is not fenced", unfenced, []string{"Replay fences the writes of the lease taken before"}},
		{"a write that waited for a replay goes on after it", func(m *mutant) {
			m.onAdvance = func(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
				err := m.Store.Advance(ctx, lease, p)
				if errors.Is(err, pulse.ErrFenced) {
					if lease, err = m.Store.Acquire(ctx, pulse.Lease{Name: lease.Name, Holder: lease.Holder}, time.Hour); err == nil {
						err = m.Store.Advance(ctx, lease, p)
					}
				}
				return err
			}
		}, []string{"Replay fences a write at the same time, or undoes it"}},
		{"nothing is dropped", ignored(func(c pulse.Control) bool { return c.Drop }), []string{
			"Drop removes the subscription and all it left", "a lease from before a Drop stays fenced when the name is used again",
			"Control of an unknown subscription is an ErrNotFound",
		}},
		{"control is for all subscriptions", func(m *mutant) {
			m.onControl = func(ctx context.Context, name string, c pulse.Control) error {
				for _, other := range []string{"mailer", "search"} {
					_ = m.Store.Control(ctx, other, c)
				}
				return nil
			}
		}, []string{"Control of one subscription leaves the others alone", "Control of an unknown subscription is an ErrNotFound"}},
		{
			"the Revision stands still", eachState(func(s *pulse.SubscriptionState) { s.Revision = 1 }),
			[]string{"each Control grows the Revision", "Settle grows the Revision of the subscriptions it changed"},
		},
		{"what a Control has Seen is not looked at", func(m *mutant) {
			m.onControl = func(ctx context.Context, name string, c pulse.Control) error {
				c.Seen = nil
				return m.Store.Control(ctx, name, c)
			}
		}, []string{seenSentence, "of several Controls decided on the same Revision one is made"}},
		{"what a Control has Seen is looked at in a step of its own", func(m *mutant) {
			m.onControl = func(ctx context.Context, name string, c pulse.Control) error {
				states, _ := m.Store.States(ctx)
				time.Sleep(time.Millisecond)
				if len(states) == 1 && c.Seen != nil && *c.Seen != states[0].Revision {
					return pulse.ErrFenced
				}
				c.Seen = nil
				return m.Store.Control(ctx, name, c)
			}
		}, []string{"of several Controls decided on the same Revision one is made"}},
		{"a refused Control grows the Revision", func(m *mutant) {
			m.onControl = func(ctx context.Context, name string, c pulse.Control) error {
				err := m.Store.Control(ctx, name, c)
				if errors.Is(err, pulse.ErrFenced) {
					_ = m.Store.Control(ctx, name, pulse.Control{Resume: true})
				}
				return err
			}
		}, []string{seenSentence}},
		{"Advance grows the Revision", func(m *mutant) {
			m.onAdvance = func(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
				return errors.Join(m.Store.Advance(ctx, lease, p), m.Store.Control(ctx, lease.Name, pulse.Control{Resume: true}))
			}
		}, []string{"each Control grows the Revision"}},
	}
}

// eachProgress plants a change of every progress.
func eachProgress(change func(p *pulse.Progress)) func(m *mutant) {
	return func(m *mutant) {
		m.onAdvance = func(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
			p.Put = slices.Clone(p.Put)
			change(&p)
			return m.Store.Advance(ctx, lease, p)
		}
	}
}

// eachList plants a change of every delivery query.
func eachList(change func(q *pulse.DeliveryQuery)) func(m *mutant) {
	return func(m *mutant) {
		m.onList = func(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
			change(&q)
			return m.Store.List(ctx, q)
		}
	}
}

// eachSettle plants a change of every settlement.
func eachSettle(change func(q *pulse.DeliveryQuery, a *pulse.Settlement)) func(m *mutant) {
	return func(m *mutant) {
		m.onSettle = func(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (int, error) {
			change(&q, &a)
			return m.Store.Settle(ctx, q, a)
		}
	}
}

func deliveryBugs() []bug {
	return []bug{
		{"the stack is not stored", eachProgress(func(p *pulse.Progress) {
			for i := range p.Put {
				p.Put[i].Stack = ""
			}
		}), []string{"Advance puts rows, and each field comes back"}},
		{"rows are never replaced", func(m *mutant) {
			eachProgress(func(p *pulse.Progress) {
				p.Put = slices.DeleteFunc(p.Put, func(r pulse.DeliveryState) bool {
					rows, _ := m.Store.List(context.Background(), pulse.DeliveryQuery{Positions: []pulse.Position{r.Position}})
					return len(rows) > 0
				})
			})(m)
		}, []string{"Advance replaces rows by position"}},
		{"rows are not removed", eachProgress(func(p *pulse.Progress) { p.Remove = nil }), []string{"Advance removes rows, also those that are not there"}},
		{
			"the cursor has no commitment", eachProgress(func(p *pulse.Progress) { p.Cursor.Commitment = [32]byte{} }),
			[]string{"Advance moves the cursor; position 0 leaves it"},
		},
		{"Advance is two writes", func(m *mutant) {
			m.onAdvance = func(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
				err := m.Store.Advance(ctx, lease, pulse.Progress{Cursor: p.Cursor})
				time.Sleep(time.Millisecond)
				return errors.Join(err, m.Store.Advance(ctx, lease, pulse.Progress{Put: p.Put, Remove: p.Remove}))
			}
		}, []string{"Advance writes cursor, puts and removes as one unit"}},
		{"zero bytes are refused", func(m *mutant) {
			m.onAdvance = func(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
				if slices.ContainsFunc(p.Put, func(r pulse.DeliveryState) bool { return strings.Contains(r.Error, "\x00") }) {
					return pulse.ErrStore
				}
				return m.Store.Advance(ctx, lease, p)
			}
		}, []string{"Advance takes an error text of any bytes"}},
		{"waiting deliveries are counted as retries", eachState(func(s *pulse.SubscriptionState) { s.Retries += s.Waiting }), []string{"States counts deliveries"}},
		{"rows come in reverse", func(m *mutant) {
			m.onList = func(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
				rows, err := m.Store.List(ctx, q)
				slices.Reverse(rows)
				return rows, err
			}
		}, []string{"List returns rows in order of position"}},
		{
			"the name is not looked at", eachList(func(q *pulse.DeliveryQuery) { q.Name = "" }),
			[]string{"List selects by subscription, positions, statuses, name pattern and After"},
		},
		{"the lane is not looked at", eachList(func(q *pulse.DeliveryQuery) { q.Blocking = false }), []string{"List selects rows that have a lane"}},
		{"the limit is applied before the name", func(m *mutant) {
			m.onList = func(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
				name := q.Name
				q.Name = ""
				rows, err := m.Store.List(ctx, q)
				return slices.DeleteFunc(rows, func(r pulse.DeliveryState) bool { return name != "" && !pulse.MatchName(name, r.Name) }), err
			}
		}, []string{"List with a Limit returns the first"}},
		{"to try again is to skip", eachSettle(func(_ *pulse.DeliveryQuery, a *pulse.Settlement) { *a = pulse.SettleSkip }), []string{
			"SettleRetry tries a dead letter again now, attempts counted anew, in its place", "SettleDrop lets the key go on and removes the dead letter",
		}},
		{"to skip is to drop", eachSettle(func(_ *pulse.DeliveryQuery, a *pulse.Settlement) { *a = pulse.SettleDrop }), []string{
			"SettleSkip lets the key go on and keeps the dead letter", "SettleRetry tries a dead letter again now, attempts counted anew, in its place",
		}},
		{"what was dropped is gone at once", func(m *mutant) {
			m.onList = func(ctx context.Context, q pulse.DeliveryQuery) ([]pulse.DeliveryState, error) {
				rows, err := m.Store.List(ctx, q)
				return slices.DeleteFunc(rows, func(r pulse.DeliveryState) bool { return r.Status == pulse.StatusDropped }), err
			}
		}, []string{"SettleDrop of a dead letter ahead of the cursor keeps a row until the cursor has passed it"}},
		{"what is not dead is counted as settled", func(m *mutant) {
			m.onSettle = func(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (int, error) {
				rows, _ := m.Store.List(ctx, q)
				_, err := m.Store.Settle(ctx, q, a)
				return len(rows), err
			}
		}, []string{"Settle changes dead letters only"}},
		{
			"settling looks at no name", eachSettle(func(q *pulse.DeliveryQuery, _ *pulse.Settlement) { q.Name = "" }),
			[]string{"Settle changes what the query selects and returns how many"},
		},
		{
			"settling has no limit", eachSettle(func(q *pulse.DeliveryQuery, _ *pulse.Settlement) { q.Limit = 0 }),
			[]string{"Settle with a Limit changes the first"},
		},
		{"settling takes the lease", func(m *mutant) {
			m.onSettle = func(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (int, error) {
				states, _ := m.Store.States(ctx)
				for _, s := range states {
					_, _ = m.Store.Acquire(ctx, pulse.Lease{Name: s.Name, Holder: s.Holder}, long)
				}
				return m.Store.Settle(ctx, q, a)
			}
		}, []string{"Settle needs no lease and fences none"}},
	}
}

// reopened is the store after the process ended and started again.
func (m *mutant) reopened() pulse.Store {
	if m.onReopen != nil {
		return m.onReopen()
	}
	return m
}

func lifeBugs() []bug {
	return []bug{
		{"nothing is durable", func(m *mutant) {
			m.onReopen = func() pulse.Store { return memstore.New(nil) }
		}, []string{
			"the log is the same after reopening", "subscriptions, inbox and deliveries are the same after reopening", "a lease is held after reopening",
		}},
		{"Close does nothing", func(m *mutant) { m.onClose = func() error { return nil } }, []string{"after Close everything is an ErrClosed"}},
		{"closing twice is an error", func(m *mutant) {
			var once sync.Once
			m.onClose = func() error {
				err := pulse.ErrClosed
				once.Do(func() { err = nil })
				return err
			}
		}, []string{"Close may be called twice"}},
	}
}

package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// eachRecord plants a change of every record on its way in.
func eachRecord(change func(r *pulse.Record)) func(m *mutant) {
	return func(m *mutant) {
		m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
			for i := range recs {
				change(&recs[i])
			}
			return m.Store.Append(ctx, recs)
		}
	}
}

// eachQuery plants a change of every query.
func eachQuery(change func(q *pulse.Query)) func(m *mutant) {
	return func(m *mutant) {
		m.onRead = func(ctx context.Context, q pulse.Query) (pulse.Page, error) {
			change(&q)
			return m.Store.Read(ctx, q)
		}
	}
}

// eachPage plants a change of every page.
func eachPage(change func(q pulse.Query, p *pulse.Page)) func(m *mutant) {
	return func(m *mutant) {
		m.onRead = func(ctx context.Context, q pulse.Query) (pulse.Page, error) {
			p, err := m.Store.Read(ctx, q)
			change(q, &p)
			return p, err
		}
	}
}

// known reports whether the id is in the store.
func (m *mutant) known(id uuid.UUID) bool {
	page, _ := m.Store.Read(context.Background(), pulse.Query{})
	return slices.ContainsFunc(page.Envelopes, func(e pulse.Envelope) bool { return e.ID == id })
}

// gaps plants the gaps that identity columns leave: each failure takes a position, which holds nothing.
func gaps(m *mutant) {
	leave := func(err error) error {
		if err != nil {
			_ = m.Store.Append(context.Background(), []pulse.Record{Record("pulse/mem", named("hole"))})
		}
		return err
	}
	m.onAppend = func(ctx context.Context, recs []pulse.Record) error { return leave(m.Store.Append(ctx, recs)) }
	m.onTransact = func(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
		return leave(m.Store.Transact(ctx, fn))
	}
	m.onRead = func(ctx context.Context, q pulse.Query) (pulse.Page, error) {
		p, err := m.Store.Read(ctx, q)
		p.Envelopes = slices.DeleteFunc(p.Envelopes, func(e pulse.Envelope) bool { return e.Name == "hole" })
		return p, err
	}
}

func appendBugs() []bug {
	return []bug{
		{"units are reversed", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				slices.Reverse(recs)
				return m.Store.Append(ctx, recs)
			}
		}, []string{"Append stores a unit in the order of its records"}},
		{"an empty unit is an error", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				if len(recs) == 0 {
					return pulse.ErrInvalid
				}
				return m.Store.Append(ctx, recs)
			}
		}, []string{"Append of no records does nothing"}},
		{"units are stored one by one", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				for i := range recs {
					if err := m.Store.Append(ctx, recs[i:i+1]); err != nil {
						return err
					}
				}
				return nil
			}
		}, []string{"Append stores a unit or nothing", "an id with other content is a ConflictError", "an id twice in one unit is stored once, or a conflict"}},
		{"the caller's bytes are kept", func(m *mutant) {
			kept := make(map[uuid.UUID]json.RawMessage)
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				for _, r := range recs {
					kept[r.ID] = r.Data
				}
				return m.Store.Append(ctx, recs)
			}
			eachPage(func(_ pulse.Query, p *pulse.Page) {
				for i := range p.Envelopes {
					p.Envelopes[i].Data = kept[p.Envelopes[i].ID]
				}
			})(m)
		}, []string{"Append keeps nothing of the records", "the caller owns a page"}},
		{"a repeated id is stored as a new event", func(m *mutant) {
			eachRecord(func(r *pulse.Record) {
				if m.known(r.ID) {
					r.ID = uuid.New()
				}
			})(m)
		}, []string{
			"a repeated id with the same content changes nothing", "a unit that was stored partly before is completed",
			"a repeated id may differ in the circumstances of the call", "an id with other content is a ConflictError",
			"concurrent appends of one id store it once", "the log is the same after reopening",
		}},
		{"a unit with a repeated id is taken for stored", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				if slices.ContainsFunc(recs, func(r pulse.Record) bool { return m.known(r.ID) }) {
					return nil
				}
				return m.Store.Append(ctx, recs)
			}
		}, []string{"a unit that was stored partly before is completed", "an id with other content is a ConflictError", "concurrent appends of one id with other contents store one of them"}},
		{
			"circumstances are compared", eachRecord(func(r *pulse.Record) { r.TimeGiven = true }),
			[]string{"a repeated id may differ in the circumstances of the call"},
		},
		{"a conflict has no details", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				if err := m.Store.Append(ctx, recs); errors.Is(err, pulse.ErrConflict) {
					return fmt.Errorf("unique violation: %w", pulse.ErrConflict)
				} else {
					return err
				}
			}
		}, []string{"an id with other content is a ConflictError"}},
		{
			"the origin is not looked at", eachRecord(func(r *pulse.Record) { r.Origin = "pulse/mem" }),
			[]string{"a record of another origin is refused"},
		},
		{"the limit is one byte too low", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				if slices.ContainsFunc(recs, func(r pulse.Record) bool { return r.Size() >= 512<<10 }) {
					return pulse.ErrTooLarge
				}
				return m.Store.Append(ctx, recs)
			}
		}, []string{"an event of exactly the size limit is stored"}},
		{"cancelled contexts are noticed too late", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				return errors.Join(m.Store.Append(context.WithoutCancel(ctx), recs), ctx.Err())
			}
			m.onTransact = func(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
				err := m.Store.Transact(context.WithoutCancel(ctx), func(c context.Context, tx pulse.Tx) error { return fn(c, tx) })
				return errors.Join(err, ctx.Err())
			}
			m.onAcquire = func(ctx context.Context, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
				got, err := m.Store.Acquire(context.WithoutCancel(ctx), lease, ttl)
				return got, errors.Join(err, ctx.Err())
			}
			m.onRegister = func(ctx context.Context, r pulse.Registration) (pulse.SubscriptionState, error) {
				state, err := m.Store.Register(context.WithoutCancel(ctx), r)
				return state, errors.Join(err, ctx.Err())
			}
			m.onAdvance = func(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
				return errors.Join(m.Store.Advance(context.WithoutCancel(ctx), lease, p), ctx.Err())
			}
			m.onSettle = func(ctx context.Context, q pulse.DeliveryQuery, a pulse.Settlement) (int, error) {
				n, err := m.Store.Settle(context.WithoutCancel(ctx), q, a)
				return n, errors.Join(err, ctx.Err())
			}
		}, []string{
			"a context cancelled before the call stores nothing", "a transaction whose context is cancelled rolls back",
			"a transaction begun with a cancelled context does nothing", "Acquire with a cancelled context takes nothing",
			"Register with a cancelled context creates nothing", "Advance with a cancelled context writes nothing",
			"Settle with a cancelled context changes nothing",
		}},
		{"large units are cut", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				return m.Store.Append(ctx, recs[:min(len(recs), 500)])
			}
		}, []string{"a unit of a thousand events is one unit"}},
		{"Info has no epoch", func(m *mutant) {
			m.onInfo = func(ctx context.Context) (pulse.Info, error) {
				info, err := m.Store.Info(ctx)
				info.Epoch = 0
				return info, err
			}
		}, []string{"an empty log has head 0 and an origin, an epoch and a size limit"}},
		{"Info lags behind", func(m *mutant) {
			last := pulse.Position(0)
			m.onInfo = func(ctx context.Context) (pulse.Info, error) {
				info, err := m.Store.Info(ctx)
				info.Head, last = last, info.Head
				return info, err
			}
		}, []string{"after Info, events appended before are at or below Head"}},
		{"the newest events that Info gives are not the newest", func(m *mutant) {
			m.onInfo = func(ctx context.Context) (pulse.Info, error) {
				info, err := m.Store.Info(ctx)
				if err == nil && info.Head > 1 {
					page, failed := m.Store.Read(ctx, pulse.Query{After: info.Head - 2, Limit: 1})
					info.Newest, err = page.Envelopes, failed
				}
				return info, err
			}
		}, []string{"the newest events that Info gives are those of the log up to Head"}},
		{
			"failures leave gaps", gaps,
			[]string{"positions are gapless, growing and immutable; who saw n has seen all before", "rolled back transactions leave no gap"},
		},
		{"a conflict is taken for stored", func(m *mutant) {
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				if err := m.Store.Append(ctx, recs); !errors.Is(err, pulse.ErrConflict) {
					return err
				}
				return nil
			}
		}, []string{"concurrent appends of one id with other contents store one of them"}},
		{"concurrent appends fail", func(m *mutant) {
			var busy sync.Mutex
			m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
				if !busy.TryLock() {
					return pulse.ErrStore
				}
				defer busy.Unlock()
				time.Sleep(100 * time.Microsecond)
				return m.Store.Append(ctx, recs)
			}
		}, []string{"positions are gapless, growing and immutable; who saw n has seen all before", "concurrent appends of one id store it once"}},
		{"the positions told are one too high", tells(func(r *pulse.Record) { r.Position++ }), []string{"the positions that Append tells are those of the log"}},
		{"the time told is not the one stored", tells(func(r *pulse.Record) { r.RecordedAt = r.RecordedAt.Add(time.Microsecond) }), []string{"the positions that Append tells are those of the log"}},
		{"a field is not stored", eachRecord(func(r *pulse.Record) { r.Causation = uuid.Nil }), []string{"every field comes back as recorded"}},
		{"no extensions come back as an object", eachPage(func(_ pulse.Query, p *pulse.Page) {
			for i := range p.Envelopes {
				if p.Envelopes[i].Extensions == nil {
					p.Envelopes[i].Extensions = json.RawMessage("{}")
				}
			}
		}), []string{"empty optional fields come back empty"}},
		{"JSON is made compact", eachRecord(func(r *pulse.Record) {
			var b bytes.Buffer
			_ = json.Compact(&b, r.Data)
			r.Data = b.Bytes()
		}), []string{"payload bytes come back exactly"}},
		{"text is trimmed", eachRecord(func(r *pulse.Record) { r.Key = strings.TrimSpace(r.Key) }), []string{"text comes back exactly", "Read selects by key, actor and correlation"}},
		{
			"times are kept in milliseconds", eachRecord(func(r *pulse.Record) { r.OccurredAt = r.OccurredAt.Truncate(time.Millisecond) }),
			[]string{"times keep microseconds, in UTC"},
		},
		{"times come back as local time", eachPage(func(_ pulse.Query, p *pulse.Page) {
			for i := range p.Envelopes {
				p.Envelopes[i].OccurredAt = p.Envelopes[i].OccurredAt.In(time.FixedZone("local", 3600))
			}
		}), []string{"times keep microseconds, in UTC"}},
		{"RecordedAt is the time of the event", eachPage(func(_ pulse.Query, p *pulse.Page) {
			for i := range p.Envelopes {
				p.Envelopes[i].RecordedAt = p.Envelopes[i].OccurredAt
			}
		}), []string{"RecordedAt is the store's time of the append"}},
	}
}

// tells changes what Append tells of the records.
func tells(change func(*pulse.Record)) func(*mutant) {
	return func(m *mutant) {
		m.onAppend = func(ctx context.Context, recs []pulse.Record) error {
			err := m.Store.Append(ctx, recs)
			for i := range recs {
				if recs[i].Position != 0 {
					change(&recs[i])
				}
			}
			return err
		}
	}
}

func readBugs() []bug {
	return []bug{
		{"a star matches several words", eachQuery(func(q *pulse.Query) {
			if prefix, ok := strings.CutSuffix(q.Name, ".*"); ok {
				q.Name = prefix + ".>"
			}
		}), []string{"Read selects by name and pattern"}},
		{"only the first name is looked at", eachQuery(func(q *pulse.Query) {
			if len(q.Names) > 1 {
				q.Names = q.Names[:1]
			}
		}), []string{"Read selects by any of several names", "Read selects by any of thousands of names"}},
		{"keys ignore case", func(m *mutant) {
			eachRecord(func(r *pulse.Record) { r.Key = strings.ToLower(r.Key) })(m)
			eachQuery(func(q *pulse.Query) { q.Key = strings.ToLower(q.Key) })(m)
		}, []string{"Read selects by key, actor and correlation"}},
		{"Until is included", eachQuery(func(q *pulse.Query) {
			if !q.Until.IsZero() {
				q.Until = q.Until.Add(time.Microsecond)
			}
		}), []string{"Read selects by the time of occurrence, Since included, Until not"}},
		{
			"After is included", eachQuery(func(q *pulse.Query) { q.After = max(q.After-1, 0) }),
			[]string{"Read selects by position, After not included, Through included"},
		},
		{"with a key the times are not looked at", eachQuery(func(q *pulse.Query) {
			if q.Key != "" {
				q.Since, q.Until = time.Time{}, time.Time{}
			}
		}), []string{"the conditions of a query are joined by and"}},
		{"the limit is not looked at", eachQuery(func(q *pulse.Query) { q.Limit = 0 }), []string{"pages of any size together are the selection"}},
		{"Next is the last event of the page", eachPage(func(q pulse.Query, p *pulse.Page) {
			p.Next = q.After
			if n := len(p.Envelopes); n > 0 {
				p.Next = p.Envelopes[n-1].Position
			}
		}), []string{"Next skips what does not match and never exceeds the head"}},
		{
			"Next runs ahead", eachPage(func(q pulse.Query, p *pulse.Page) { p.Next++ }),
			[]string{"Next skips what does not match and never exceeds the head", "Next stays at After when there is nothing beyond"},
		},
		{"there is one page only", eachPage(func(q pulse.Query, p *pulse.Page) {
			if q.After >= 1000 {
				*p = pulse.Page{Next: q.After}
			}
		}), []string{"a store that chooses the page size reads everything"}},
		{"pages are cached", func(m *mutant) {
			pages := make(map[pulse.Position]pulse.Page)
			m.onRead = func(ctx context.Context, q pulse.Query) (p pulse.Page, err error) {
				if p, ok := pages[q.After]; ok {
					return p, nil
				}
				p, err = m.Store.Read(ctx, q)
				pages[q.After] = p
				return p, err
			}
		}, []string{"the caller owns a page"}},
		{"reading ignores the context", func(m *mutant) {
			m.onRead = func(ctx context.Context, q pulse.Query) (pulse.Page, error) {
				return m.Store.Read(context.WithoutCancel(ctx), q)
			}
		}, []string{"Read with a cancelled context fails"}},
	}
}

func indexBugs() []bug {
	return []bug{
		{"indexing never ends", func(m *mutant) {
			m.onIndex = func(context.Context, int) (bool, error) { return true, nil }
		}, []string{"Index comes to an end", "Index with a cancelled context fails"}},
		{"what was appended since is not found by key", func(m *mutant) {
			indexed := pulse.Position(0)
			m.onIndex = func(ctx context.Context, limit int) (bool, error) {
				info, err := m.Store.Info(ctx)
				indexed = min(indexed+pulse.Position(limit), info.Head)
				return indexed < info.Head, err
			}
			eachQuery(func(q *pulse.Query) {
				if q.Key != "" && q.Through == 0 && indexed > 0 {
					q.Through = indexed
				}
			})(m)
		}, []string{"Index changes no answer, however far it got"}},
	}
}

// direct plants transactions that write at once and roll back nothing.
func direct(m *mutant) {
	m.onTxAppend = func(ctx context.Context, _ pulse.Tx, recs []pulse.Record) error { return m.Store.Append(ctx, recs) }
}

func transactBugs() []bug {
	return []bug{
		{"transactions never commit", func(m *mutant) {
			m.onTransact = func(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
				err := m.Store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error { return errors.Join(fn(ctx, tx), errRollback) })
				if errors.Is(err, errRollback) {
					return nil
				}
				return err
			}
		}, []string{"a transaction that returns nil commits", "a repeated id in a transaction changes nothing", "transactions run beside each other and beside appends"}},
		{"transactions write at once", direct, []string{
			"a transaction that returns an error rolls back and returns it as it is", "a transaction that panics rolls back and panics on",
			"a transaction whose context is cancelled rolls back", "what a transaction appends is not seen before it commits",
			"rolled back transactions leave no gap", "an event emitted in a transaction exists if and only if it commits", "Mark and effects commit together",
		}},
		{"the function's error is wrapped", func(m *mutant) {
			m.onTransact = func(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
				if err := m.Store.Transact(ctx, fn); err != nil {
					return fmt.Errorf("transact: %w", err)
				}
				return nil
			}
		}, []string{"a transaction that returns an error rolls back and returns it as it is"}},
		{"panics are swallowed", func(m *mutant) {
			m.onTransact = func(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
				defer func() {
					if got := recover(); got == any(exitCase{}) {
						panic(got)
					}
				}()
				return m.Store.Transact(ctx, fn)
			}
		}, []string{"a transaction that panics rolls back and panics on"}},
		{"errors inside a transaction are swallowed", func(m *mutant) {
			m.onTxAppend = func(ctx context.Context, tx pulse.Tx, recs []pulse.Record) error {
				_ = tx.Append(ctx, recs)
				return nil
			}
		}, []string{"Append in a transaction refuses what Append refuses", "Append in a transaction knows what the transaction appended before", "a transaction is dead after its end"}},
		{"a repeated id in a transaction is a conflict", func(m *mutant) {
			m.onTxAppend = func(ctx context.Context, tx pulse.Tx, recs []pulse.Record) error {
				if slices.ContainsFunc(recs, func(r pulse.Record) bool { return m.known(r.ID) }) {
					return pulse.ErrConflict
				}
				return tx.Append(ctx, recs)
			}
		}, []string{"a repeated id in a transaction changes nothing", "transactions run beside each other and beside appends"}},
		{"there is nothing to unwrap", func(m *mutant) {
			m.onTransact = func(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
				return m.Store.Transact(ctx, func(ctx context.Context, tx pulse.Tx) error { return fn(ctx, sealedTx{tx}) })
			}
		}, []string{"Unwrap returns the adapter's own transaction"}},
	}
}

// sealedTx hides the adapter's own transaction.
type sealedTx struct{ pulse.Tx }

func (sealedTx) Unwrap() any { return nil }

package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/edupulse-live/pulse"
)

// currentSQL asks for all that decides about a lease.
const currentSQL = `SELECT s.generation, s.revision, coalesce(l.holder, ''), coalesce(l.token, 0), coalesce(l.generation, 0),
	coalesce(l.unclean, 0), coalesce(l.held, 0), coalesce(l.expires_at, 0), coalesce(p.position, 0)
	FROM subscriptions AS s
	LEFT JOIN leases AS l ON l.subscription = s.name
	LEFT JOIN progress AS p ON p.kind = 'subscription' AND p.name = s.name
	WHERE s.name = ?`

const (
	renewSQL   = "UPDATE leases SET expires_at = ? WHERE subscription = ?"
	prolongSQL = "UPDATE leases SET expires_at = expires_at + ? WHERE held"
)

const (
	renewWait = 500 * time.Millisecond // how long a renewal waits for the writer before it only looks
	heldLong  = 100 * time.Millisecond // transactions that last longer prolong the leases: renewals may have come in vain
)

// holding is a subscription and its lease as stored.
type holding struct {
	generation int
	revision   int64
	lease      pulse.Lease // the last one given; Token 0 when there never was one
	held       bool        // not released; may have run out
	expires    int64
	cursor     pulse.Position
}

// holdingOf reads the holding of a subscription, or returns ErrNotFound.
func (s *Store) holdingOf(tx *sql.Tx, name string) (holding, error) {
	return scanHolding(s.queryRow(tx, currentSQL, name), name)
}

// scanHolding reads the row of currentSQL for a subscription, or returns ErrNotFound.
func scanHolding(row *sql.Row, name string) (holding, error) {
	h := holding{lease: pulse.Lease{Name: name}}
	err := row.Scan(&h.generation, &h.revision, &h.lease.Holder, &h.lease.Token, &h.lease.Generation,
		&h.lease.Unclean, &h.held, &h.expires, &h.cursor)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: subscription %q is not registered", pulse.ErrNotFound, name)
	}
	h.lease.Revision = h.revision
	return h, err
}

// current returns the holding whose lease this is, or ErrFenced.
func (s *Store) current(tx *sql.Tx, lease pulse.Lease) (holding, error) {
	return scanCurrent(s.queryRow(tx, currentSQL, lease.Name), lease)
}

// scanCurrent reads the row of currentSQL for the lease's subscription, or returns ErrFenced when the lease is not the current one.
func scanCurrent(row *sql.Row, lease pulse.Lease) (holding, error) {
	h, err := scanHolding(row, lease.Name)
	switch {
	case errors.Is(err, pulse.ErrNotFound):
		err = fmt.Errorf("%w: subscription %q was dropped", pulse.ErrFenced, lease.Name)
	case err != nil:
	case !h.held || h.lease.Token != lease.Token || h.lease.Holder != lease.Holder:
		err = fmt.Errorf("%w: lease %d of %s on subscription %q is not the current one: stop, and take it again",
			pulse.ErrFenced, lease.Token, lease.Holder, lease.Name)
	case h.generation != lease.Generation || h.lease.Generation != lease.Generation:
		err = fmt.Errorf("%w: subscription %q was replayed: take the lease again", pulse.ErrFenced, lease.Name)
	}
	return h, err
}

// Acquire takes or renews a lease; see pulse.Leases. A lease that ran out stays its holder's until another one takes it. Taking it
// again under the same holder fences the former lease. The lease of a process of this machine that has ended is free at once, if
// Holder has the form host/pid/anything.
//
// A renewal that does not get the writer within half a second only looks whether the lease is the current one. It does not make the lease last: nobody
// can take it before who is writing has ended, and a transaction of a store that took long then prolongs all leases by that time.
func (s *Store) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (got pulse.Lease, err error) {
	if lease.Holder == "" || ttl <= 0 {
		return pulse.Lease{}, fail("acquire", fmt.Errorf("%w: lease of %q: a holder and a time to live above zero are needed", pulse.ErrInvalid, lease.Name))
	}
	if lease.Token != 0 {
		got, err = s.renewOrLook(ctx, lease, ttl)
	} else {
		err = s.write(ctx, "acquire", full, func(tx *sql.Tx) (err error) {
			got, err = s.take(tx, lease, ttl)
			return err
		})
	}
	if err != nil {
		return pulse.Lease{}, err
	}
	return got, nil
}

// renewOrLook renews a lease. While somebody writes for longer than renewWait it only looks whether anybody took it before: the transaction of one
// handler must not cost all the others their leases.
func (s *Store) renewOrLook(ctx context.Context, lease pulse.Lease, ttl time.Duration) (got pulse.Lease, err error) {
	waiting, cancel := context.WithTimeout(ctx, renewWait)
	defer cancel()
	err = s.write(waiting, "acquire", normal, func(tx *sql.Tx) (err error) {
		got, err = s.renew(tx, lease, ttl)
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return got, err
	}
	if err := s.enter(ctx); err != nil {
		return got, fail("acquire", err)
	}
	defer s.leave()
	h, err := scanCurrent(s.readers.QueryRowContext(context.WithoutCancel(ctx), currentSQL, lease.Name), lease)
	if err != nil {
		return got, fail("acquire", err)
	}
	return h.lease, nil
}

// prolong gives the leases the time back in which nobody could renew them because of the transaction that ends; one that had run out
// before stays so. on is that transaction, so that nobody can take one in between, or its connection when it was undone.
func (s *Store) prolong(on interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
},
) error {
	lasted := s.now().Sub(s.began)
	if lasted < heldLong {
		return nil
	}
	_, err := on.ExecContext(context.Background(), prolongSQL, lasted.Microseconds())
	return err
}

func (s *Store) renew(tx *sql.Tx, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	h, err := s.current(tx, lease)
	if err != nil {
		return pulse.Lease{}, err
	}
	_, err = s.exec(tx, renewSQL, s.now().Add(ttl).UnixMicro(), lease.Name)
	return h.lease, err
}

func (s *Store) take(tx *sql.Tx, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	h, err := s.holdingOf(tx, lease.Name)
	if err != nil {
		return pulse.Lease{}, err
	}
	now := s.now()
	if h.held && h.lease.Holder != lease.Holder && now.UnixMicro() < h.expires && !gone(h.lease.Holder, lease.Holder) {
		return pulse.Lease{}, fmt.Errorf("%w: subscription %q is held by %s until %s",
			pulse.ErrHeld, lease.Name, h.lease.Holder, time.UnixMicro(h.expires).UTC().Format(time.RFC3339))
	}
	taken := pulse.Lease{Name: lease.Name, Holder: lease.Holder, Generation: h.generation, Revision: h.revision, Unclean: h.held}
	// One counter for all, so that a token does not come again after a subscription was dropped and registered anew.
	err = tx.QueryRow("UPDATE settings SET value = value + 1 WHERE name = 'last_token' RETURNING value").Scan(&taken.Token)
	if err != nil {
		return pulse.Lease{}, err
	}
	_, err = tx.Exec(`INSERT OR REPLACE INTO leases (subscription, holder, token, generation, unclean, held, expires_at)
		VALUES (?, ?, ?, ?, ?, 1, ?)`, taken.Name, taken.Holder, taken.Token, taken.Generation, taken.Unclean, now.Add(ttl).UnixMicro())
	return taken, err
}

// Release gives a lease back cleanly; see pulse.Leases.
func (s *Store) Release(ctx context.Context, lease pulse.Lease) error {
	return s.write(ctx, "release", normal, func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE leases SET held = 0 WHERE subscription = ? AND holder = ? AND token = ?", lease.Name, lease.Holder, lease.Token)
		return err
	})
}

// gone reports that holder was a process of the same machine as the one that asks, which is this one, and has ended.
func gone(holder, asks string) bool {
	place, pid := process(holder)
	here, _ := process(asks)
	return pid > 0 && place == here && processGone(pid)
}

// process reads the name that a bus gives itself; pid is 0 when it has another form.
func process(holder string) (place string, pid int) {
	place, rest, _ := strings.Cut(holder, "/")
	id, _, ok := strings.Cut(rest, "/")
	if pid, err := strconv.Atoi(id); ok && err == nil {
		return place, pid
	}
	return place, 0
}

package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
)

const (
	// fenceSQL makes sure that a lease is the current one, and that it stays so until the transaction ends. Who takes a lease over waits
	// for that. It answers the subscription's cursor.
	fenceSQL = "SELECT coalesce((" + heldSQL + " FOR KEY SHARE OF l), " + fencedSQL + ")"

	// currentSQL is fenceSQL for the moment only.
	currentSQL = "SELECT coalesce((" + heldSQL + "), " + fencedSQL + ")"

	// heldSQL selects the cursor of the subscription if the lease is the current one.
	heldSQL = `SELECT coalesce((SELECT position FROM @progress WHERE kind = 'subscription' AND name = l.subscription ORDER BY n DESC LIMIT 1), 0)
		FROM @leases l JOIN @subscriptions s ON s.name = l.subscription
		WHERE l.subscription = $1 AND l.holder = $2 AND l.token = $3 AND l.generation = $4 AND l.held AND s.generation = $4`

	fencedSQL = "@refuse('PU001', 'the lease is not the current one')"
)

// fenceArgs are the parameters of heldSQL.
func fenceArgs(lease pulse.Lease) []any {
	return []any{lease.Name, lease.Holder, lease.Token, int64(lease.Generation)}
}

// Acquire takes or renews a lease by the database's clock; see pulse.Leases. A lease that ran out stays its holder's until another one takes
// it. Taking it again under the same holder fences the former lease. Who takes a lease over waits until transactions of the
// former holder that are about to commit have done so.
func (s *Store) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (got pulse.Lease, err error) {
	const op = "acquire"
	if lease.Holder == "" || ttl <= 0 {
		return got, fail(op, fmt.Errorf("%w: lease of %q: a holder and a time to live above zero are needed", pulse.ErrInvalid, lease.Name))
	}
	err = s.write(ctx, op, func(tx *lazyTx) (err error) {
		if lease.Token != 0 {
			got, err = s.renew(ctx, tx, lease, ttl)
		} else {
			got, err = s.take(ctx, tx, lease, ttl)
		}
		return err
	})
	if err != nil {
		return pulse.Lease{}, err
	}
	return got, nil
}

func (s *Store) renew(ctx context.Context, tx *lazyTx, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	tx.keep(relaxSQL)
	err := tx.QueryRow(ctx, s.schema.sql(`UPDATE @leases l SET expires_at = clock_timestamp() + $5::int8 * interval '1 microsecond'
		FROM @subscriptions s WHERE s.name = l.subscription AND l.subscription = $1 AND l.holder = $2 AND l.token = $3 AND l.generation = $4
		AND l.held AND s.generation = $4 RETURNING s.revision, l.unclean`), append(fenceArgs(lease), ttl.Microseconds())...).
		Scan(&lease.Revision, &lease.Unclean)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: lease %d of %s on subscription %q is not the current one: stop, and take it again",
			pulse.ErrFenced, lease.Token, lease.Holder, lease.Name)
	}
	return lease, err
}

func (s *Store) take(ctx context.Context, tx pgx.Tx, lease pulse.Lease, ttl time.Duration) (pulse.Lease, error) {
	taken := pulse.Lease{Name: lease.Name, Holder: lease.Holder}
	if _, err := s.lock(ctx, tx, lease.Name); err != nil {
		return taken, err
	}
	var holder *string
	var held, running bool
	var expires *time.Time
	err := tx.QueryRow(ctx, s.schema.sql(`SELECT s.generation, s.revision, l.holder, coalesce(l.held, false),
		coalesce(l.expires_at > clock_timestamp(), false), l.expires_at
		FROM @subscriptions s LEFT JOIN @leases l ON l.subscription = s.name WHERE s.name = $1`), lease.Name).
		Scan(&taken.Generation, &taken.Revision, &holder, &held, &running, &expires)
	if err != nil {
		return taken, err
	}
	if held && running && *holder != lease.Holder {
		return taken, fmt.Errorf("%w: subscription %q is held by %s until %s", pulse.ErrHeld, lease.Name, *holder, expires.UTC().Format(time.RFC3339))
	}
	taken.Unclean = held
	// One counter for all, so that a token does not come again after a subscription was dropped and registered anew.
	err = tx.QueryRow(ctx, s.schema.sql(`INSERT INTO @leases AS l (subscription, holder, token, generation, unclean, held, expires_at)
		VALUES ($1, $2, nextval('@lease_tokens'), $3, $4, true, clock_timestamp() + $5::int8 * interval '1 microsecond')
		ON CONFLICT (subscription) DO UPDATE SET (holder, token, generation, unclean, held, expires_at)
		= (excluded.holder, excluded.token, excluded.generation, excluded.unclean, excluded.held, excluded.expires_at)
		RETURNING l.token`), taken.Name, taken.Holder, taken.Generation, taken.Unclean, ttl.Microseconds()).Scan(&taken.Token)
	return taken, err
}

// lock makes tx the only one that changes who may work for a subscription, and returns its revision, or ErrNotFound. It waits for
// transactions that were fenced and are about to commit.
func (s *Store) lock(ctx context.Context, tx pgx.Tx, name string) (revision int64, err error) {
	err = tx.QueryRow(ctx, s.schema.sql("SELECT revision FROM @subscriptions WHERE name = $1 FOR UPDATE"), name).Scan(&revision)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("%w: subscription %q is not registered", pulse.ErrNotFound, name)
	}
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, s.schema.sql("SELECT 1 FROM @leases WHERE subscription = $1 FOR UPDATE"), name)
	return revision, err
}

// Release gives a lease back cleanly; see pulse.Leases.
func (s *Store) Release(ctx context.Context, lease pulse.Lease) error {
	return s.write(ctx, "release", func(tx *lazyTx) error {
		_, err := tx.Exec(ctx, s.schema.sql("UPDATE @leases SET held = false WHERE subscription = $1 AND holder = $2 AND token = $3"),
			lease.Name, lease.Holder, lease.Token)
		return err
	})
}

package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
)

const (
	rollbackTimeout = 5 * time.Second
	// resolveTimeout is how long Append tries to find out what became of a unit whose answer was lost, while its caller waits.
	resolveTimeout = 10 * time.Second
	// repeatTries is how often a unit of repeated ids is tried that the server gave up for the sake of another transaction.
	repeatTries = 5

	// mostUnitBytes is how much the events of one unit take at most, by their sizes. PostgreSQL takes messages of up to 1 GiB, and the text that
	// repeated ids are sent in is up to four times as long.
	mostUnitBytes = 255 << 20
)

// Append stores recs as one unit; see pulse.Store. It is one statement, unless one of the ids is stored already or is just being
// stored by another transaction, for whose end it waits up to three seconds, for a
// unit of several a tenth of that; then the error is an ErrBusy. When the connection is lost before the server
// answered, Append finds out what happened by storing the same ids again; only if that fails too the error is an ErrUnknown. A unit of more
// than 255 MiB is an ErrTooLarge.
func (s *Store) Append(ctx context.Context, recs []pulse.Record) error {
	if err := s.enter(ctx); err != nil {
		return fail(opAppend, err)
	}
	defer s.leave()
	if len(recs) == 0 {
		return nil
	}
	if err := s.check(recs); err != nil {
		return fail(opAppend, err)
	}
	s.appended.add(recs)
	err := s.insert(ctx, recs)
	switch {
	case err == nil:
		return nil
	case hasCode(err, uniqueViolation, lockNotAvailable, deadlockDetected, serializationFailure, idleSession):
		err = s.appendRepeats(ctx, recs)
	}
	if lost(err) {
		err = s.resolve(ctx, recs, err)
	}
	if err != nil {
		return failSent(opAppend, err)
	}
	return nil
}

// Expect keeps copies of recs, some thousands at most, until they have a position, so that Info need not read them; see pulse.Expecter.
func (s *Store) Expect(recs []pulse.Record) { s.appended.add(recs) }

const opAppend = "append"

// ParallelAppends is 2: while the server writes one large batch of emits the next is made; see pulse.Parallel.
func (s *Store) ParallelAppends() int { return 2 }

// check refuses records that do not belong into this log, and more than a unit can have.
func (s *Store) check(recs []pulse.Record) error {
	total := 0
	for i := range recs {
		rec := &recs[i]
		if rec.Origin != s.origin {
			return fmt.Errorf("%w: event %s was made for the log %q, this one is %q: make its digests with the origin that Info gives",
				pulse.ErrInvalid, rec.ID, rec.Origin, s.origin)
		}
		n := rec.Size()
		if n > s.limit {
			return fmt.Errorf("%w: event %s takes %d bytes, the limit of this log is %d", pulse.ErrTooLarge, rec.ID, n, s.limit)
		}
		total += n
	}
	return fits(len(recs), total, s.most)
}

// fits refuses n events of total bytes together, when they are more than most.
func fits(n, total, most int) error {
	if total > most {
		return fmt.Errorf("%w: %d events take %d bytes together, and what is stored at once %d at most: emit them in %d parts or more",
			pulse.ErrTooLarge, n, total, most, (total+most-1)/most)
	}
	return nil
}

// insert stores recs by one statement, or more when they are very many, that fail as a whole when one of the ids is stored.
func (s *Store) insert(ctx context.Context, recs []pulse.Record) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := sendable(ctx, conn.Conn()); err != nil {
		return err
	}
	var calls []call
	for part := range slices.Chunk(recs, insertChunk) {
		buffer := s.buffers.Get().(*unit)
		defer s.buffers.Put(buffer)
		calls = append(calls, s.insertCall(buffer, part))
	}
	return s.roundTrip(ctx, conn.Conn(), calls, func(*pgconn.MultiResultReader) error { return nil })
}

// insertCall inserts recs. It is good until buffer is used for something else.
func (s *Store) insertCall(buffer *unit, recs []pulse.Record) call {
	sql := s.sql.insert
	if len(recs) == 1 {
		sql = s.sql.insertOne
	}
	return call{sql: sql, formats: []int16{1, 0, 0, 0}, params: [][]byte{
		buffer.binary(recs), []byte(s.origin), strconv.AppendInt(nil, int64(largest(recs)), 10), strconv.AppendInt(nil, plainWait.Milliseconds(), 10),
	}}
}

// appendRepeats stores those of recs that are not stored yet, and compares the others.
func (s *Store) appendRepeats(ctx context.Context, recs []pulse.Record) (err error) {
	wait := repeatWait
	if len(recs) > 1 {
		wait = unitWait
	}
	for range repeatTries {
		err = s.schema.inTx(ctx, s.pool, opAppend, func(tx *lazyTx) error {
			tx.keep("SELECT set_config('lock_timeout', $1::text, true), "+syncSQL, strconv.Itoa(int(wait.Milliseconds())))
			return tx.appendNow(ctx, recs)
		})
		if !hasCode(err, deadlockDetected, serializationFailure) {
			return err
		}
	}
	return err
}

// resolve finds out whether recs were stored, and stores them if not: the answer to storing them was lost, and with it maybe the server for
// a moment. Who stores ids again waits for a transaction that is just storing them, so it cannot be misled by one still running.
func (s *Store) resolve(ctx context.Context, recs []pulse.Record, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := s.appendRepeats(ctx, recs)
		if err == nil || errors.Is(err, pulse.ErrConflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return cause
		case <-time.After(pause):
		}
	}
}

package pgstore

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// hintChannel is the channel of NOTIFY for all logs of a database; the payload says which log and who hints.
	hintChannel = "pulse_hints"
	// hintEvery is how often a store notifies at most: who hears of one event looks for others for longer than that.
	hintEvery   = 20 * time.Millisecond
	hintTimeout = 2 * time.Second
)

// hints are those a store gives.
type hints struct {
	self    string // tells this store's hints from others'
	state   atomic.Int32
	closing chan struct{}
}

// The states of hints.
const (
	hintsIdle    int32 = iota // nobody notifies
	hintsSending              // a goroutine does
	hintsMore                 // and shall do so once more
)

// Hint tells stores on the same log in other processes that something was emitted, or is about to be; see pulse.Hinter. It is a NOTIFY
// of its own, in no transaction of yours, as commits of those wait for each other, and nobody waits for the disk. Where a pooler or a failure keeps it from
// arriving the others find out a little later.
func (s *Store) Hint() {
	for {
		switch state := s.hints.state.Load(); {
		case state == hintsMore:
			return
		case state == hintsSending:
			if s.hints.state.CompareAndSwap(state, hintsMore) {
				return
			}
		case s.hints.state.CompareAndSwap(hintsIdle, hintsSending):
			if s.enter(context.Background()) != nil {
				s.hints.state.Store(hintsIdle)
				return
			}
			go s.notify()
			return
		}
	}
}

// notify sends hints until no more are wanted.
func (s *Store) notify() {
	defer s.leave()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), hintTimeout)
		_, _ = s.pool.Exec(ctx, "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)", pgx.QueryExecModeExec, hintChannel, string(s.schema)+" "+s.hints.self)
		cancel()
		select {
		case <-time.After(hintEvery):
		case <-s.hints.closing:
		}
		if s.hints.state.CompareAndSwap(hintsSending, hintsIdle) {
			return
		}
		s.hints.state.Store(hintsSending)
	}
}

// Listen calls heard for each hint of other stores on this log; see pulse.Hinter. It has a connection of its own, beside the pool's. Behind a
// pooler in transaction mode nothing may be heard.
func (s *Store) Listen(ctx context.Context, heard func()) error {
	const op = "listen"
	if err := s.enter(ctx); err != nil {
		return fail(op, err)
	}
	defer s.leave()
	conn, err := s.connectBeside(ctx)
	if err != nil {
		return fail(op, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+hintChannel, pgx.QueryExecModeExec); err != nil {
		return fail(op, err)
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fail(op, fmt.Errorf("no more hints: %w", err))
		}
		log, from, _ := strings.Cut(n.Payload, " ")
		if log == string(s.schema) && from != s.hints.self {
			heard()
		}
	}
}

// connectBeside makes a connection as the pool does, beside it.
func (s *Store) connectBeside(ctx context.Context) (*pgx.Conn, error) {
	config := s.pool.Config()
	if config.BeforeConnect != nil { // it may know the password
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, config.ConnConfig)
}

package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse"
)

// Options of a store. The zero value works. Origin and MaxEventBytes are for a new log.
type Options struct {
	// Schema is where the tables are. Default "pulse". It is created when it is not there.
	Schema Schema
	// Origin is the name of the log, part of every digest. Default "pulse/" and a random UUID. For an existing log it may
	// be left empty; another one than the log's is an error. It is UTF-8 without zero bytes.
	Origin string
	// MaxEventBytes is the size limit of one event, as Envelope.Size counts. Default 512 KiB, at most 255 MiB. An existing log keeps its own.
	MaxEventBytes int
}

// schema is the one that a log with these options is in.
func (o *Options) schema() Schema {
	if o == nil || o.Schema == "" {
		return DefaultSchema
	}
	return o.Schema
}

// check refuses what a log cannot be made with.
func (o *Options) check() error {
	if err := o.schema().check(); err != nil || o == nil {
		return err
	}
	switch {
	case !utf8.ValidString(o.Origin) || strings.Contains(o.Origin, "\x00"):
		return fmt.Errorf("%w: origin %.80q: give a name in UTF-8 without zero bytes, or none", pulse.ErrInvalid, o.Origin)
	case o.MaxEventBytes < 0 || o.MaxEventBytes > mostUnitBytes:
		return fmt.Errorf("%w: events of up to %d bytes: give MaxEventBytes from 1 to %d, or 0 for %d",
			pulse.ErrInvalid, o.MaxEventBytes, mostUnitBytes, defaultMaxBytes)
	}
	return nil
}

const (
	defaultMaxBytes = 512 << 10
	// defaultConnections is the size of the store's own pool, unless the DSN says pool_max_conns.
	defaultConnections = 16
)

// Store is a log in PostgreSQL. Its methods may be called concurrently.
type Store struct {
	pool     *pgxpool.Pool
	ownPool  bool
	schema   Schema
	origin   string
	limit    int // size of an event
	most     int // mostUnitBytes, less in tests
	sql      statements
	nameless atomic.Bool   // a name turned out wrong, see roundTrip
	buffers  sync.Pool     // of *unit
	room     chan struct{} // holds a token for each open Transact: some connections always stay for others

	sequencer sequencer
	appended  appended
	hints     hints
	head      atomic.Int64 // of the log, as far as known here
	pageRows  atomic.Int64 // how many rows of the log made up the size of a page lately
	advances  sync.Map     // name of a subscription -> *atomic.Int64: how many calls of Advance are left until one prunes

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // running methods; grows under mu while not closed
}

// A Store has every ability that a store can have.
var (
	_ pulse.Store         = (*Store)(nil)
	_ pulse.Transactor    = (*Store)(nil)
	_ pulse.Leases        = (*Store)(nil)
	_ pulse.Subscriptions = (*Store)(nil)
	_ pulse.Deliveries    = (*Store)(nil)
	_ pulse.Indexer       = (*Store)(nil)
	_ pulse.Parallel      = (*Store)(nil)
	_ pulse.Hinter        = (*Store)(nil)
	_ pulse.Expecter      = (*Store)(nil)
)

// Open opens the store on the database that dsn names, a URL or key=value pairs as pgxpool.ParseConfig takes them, with a pool of
// connections of its own. A nil opts means the defaults. Tables are created, or brought to this version, when
// needed. The caller closes the store.
func Open(ctx context.Context, dsn string, opts *Options) (*Store, error) {
	pool, err := connect(ctx, dsn)
	if err != nil {
		return nil, fail("open", err)
	}
	s, err := open(ctx, pool, opts)
	if err != nil {
		pool.Close()
		return nil, err
	}
	s.ownPool = true
	return s, nil
}

// connect makes the pool for a DSN.
func connect(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("%w: give a DSN such as postgres://user@host/database: %w", pulse.ErrInvalid, err)
	}
	if !saysMode(dsn) {
		prepareWhereDirect(config)
	}
	// What pgx sends and reads, whatever is set for the role. Poolers take these two from every driver.
	config.ConnConfig.RuntimeParams["client_encoding"], config.ConnConfig.RuntimeParams["datestyle"] = "UTF8", "ISO"
	if !strings.Contains(dsn, "pool_max_conns") {
		config.MaxConns = defaultConnections
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// saysMode reports whether a DSN says how statements are to be sent.
func saysMode(dsn string) bool { return strings.Contains(dsn, "default_query_exec_mode") }

// OpenPool is Open with a pool of yours, which stays open when the store is closed. It should have four connections or more; a pool of one is refused.
func OpenPool(ctx context.Context, pool *pgxpool.Pool, opts *Options) (*Store, error) {
	return open(ctx, pool, opts)
}

func open(ctx context.Context, pool *pgxpool.Pool, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := opts.check(); err != nil {
		return nil, fail("open", err)
	}
	if pool.Config().MaxConns < 2 {
		return nil, fail("open", fmt.Errorf("%w: a pool of one connection, for which all else would wait while a handler has its transaction: "+
			"set pool_max_conns to 4 or more", pulse.ErrInvalid))
	}
	s := &Store{pool: pool, schema: opts.schema(), most: mostUnitBytes}
	s.sql = newStatements(s.schema)
	s.buffers.New = func() any { return new(unit) }
	s.room = make(chan struct{}, max(1, int(pool.Config().MaxConns)-2))
	s.sequencer.init()
	s.hints.self, s.hints.closing = uuid.NewString(), make(chan struct{})
	s.pageRows.Store(maxPage)
	if err := s.prepare(ctx, opts); err != nil {
		return nil, fail("open", err)
	}
	return s, nil
}

// prepare brings the tables to this version and reads what is constant about the log.
func (s *Store) prepare(ctx context.Context, opts *Options) error {
	m, err := newMigrator(s.pool, opts)
	if err != nil {
		return err
	}
	if _, err := m.run(ctx); err != nil {
		return err
	}
	err = s.pool.QueryRow(ctx, s.schema.sql("SELECT origin, max_event_bytes FROM @settings")).Scan(&s.origin, &s.limit)
	if err != nil {
		return err
	}
	if opts.Origin != "" && opts.Origin != s.origin {
		return fmt.Errorf("%w: the log in schema %s is named %q, not %q: give its own name or none", pulse.ErrInvalid, s.schema, s.origin, opts.Origin)
	}
	return nil
}

// Close waits for running calls, functions given to Transact among them, and closes the store's own pool. Every later call returns
// ErrClosed; a second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.hints.closing)
	s.mu.Unlock()
	s.calls.Wait()
	if s.ownPool {
		s.pool.Close()
	}
	return nil
}

// enter begins a call of a method, unless the store is closed or the caller has gone. leave ends it.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("%w: the store was closed: close it after all that use it", pulse.ErrClosed)
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) leave() { s.calls.Done() }

// acquire takes a connection of the pool. The caller releases it.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, errors.Join(errNoConnection, err)
	}
	return conn, nil
}

// statements are those that are used often, for the store's schema.
type statements struct {
	insert, insertOne string // wait plainWait for who stores the same id
	tick              string
	head, page, near  string
	lookup, reach     string
	fence, mark       string
}

func newStatements(schema Schema) statements {
	return statements{
		insert:    schema.sql(appendSQL(false, ownUnit)),
		insertOne: schema.sql(appendSQL(true, ownUnit)),
		tick:      schema.sql(tickSQL),
		head:      schema.sql(headSQL),
		page:      schema.sql(pageSQL),
		near:      schema.sql(nearSQL),
		lookup:    schema.sql(lookupSQL),
		reach:     schema.sql(reachSQL),
		fence:     schema.sql(fenceSQL),
		mark:      schema.sql(markSQL),
	}
}

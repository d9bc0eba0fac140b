package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/edupulse-live/pulse"
)

// Options of a new file. The zero value works. For an existing file they are checked only.
type Options struct {
	// Origin is the name of the log, part of every digest. Default "pulse/" and a random UUID. For an existing file
	// it may be left empty; another one than the file's is an error.
	Origin string
	// MaxEventBytes is the size limit of one event, as Envelope.Size counts. Default 512 KiB. An existing file keeps its own.
	MaxEventBytes int
}

const (
	busyTimeout      = 10 * time.Second // how long to wait for another process that is writing
	defaultMaxBytes  = 512 << 10
	readConnections  = 4
	checkpointPages  = 4000     // size of the WAL at which its pages are moved into the file
	journalSizeLimit = 64 << 20 // the WAL is cut to this many bytes after it was longer
)

// Store is a log in an SQLite file. Its methods may be called concurrently.
type Store struct {
	path   string
	file   os.FileInfo // what was opened under path
	origin string
	epoch  int
	limit  int
	now    func() time.Time

	inserts  inserts
	writer   *sql.DB // one connection
	readers  *sql.DB // cannot write
	prepared map[string]*sql.Stmt
	head     *sql.Stmt
	page     *sql.Stmt
	states   *sql.Stmt

	// owned by who holds the writer's connection
	level synchronous
	began time.Time // of its transaction
	args  []any
	fast  fast

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // running methods; grows under mu while not closed
	open   int            // transactions that have not ended
}

// A Store has every ability that a store can have.
var (
	_ pulse.Store         = (*Store)(nil)
	_ pulse.Transactor    = (*Store)(nil)
	_ pulse.Leases        = (*Store)(nil)
	_ pulse.Subscriptions = (*Store)(nil)
	_ pulse.Deliveries    = (*Store)(nil)
	_ pulse.Indexer       = (*Store)(nil)
)

// Open opens the store in the file at path, and creates it when there is none; its directory must exist. A nil opts means the
// defaults. A file that is not a store, is damaged or belongs to a newer version of Pulse is refused and left
// as it is. The caller closes the store.
func Open(ctx context.Context, path string, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	s, err := open(ctx, path, opts)
	if err != nil {
		return nil, fail("open "+path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string, opts *Options) (*Store, error) {
	abs, err := inspect(ctx, path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: abs, now: time.Now, level: full}
	if s.writer, err = openDB(abs, 1, "_txlock=immediate&_busy_timeout=0"); err != nil {
		return nil, err
	}
	if s.readers, err = openDB(abs, readConnections, "_query_only=1&_busy_timeout="+strconv.Itoa(int(busyTimeout.Milliseconds()))); err != nil {
		return nil, errors.Join(err, s.writer.Close())
	}
	if err = s.prepare(ctx, opts); err == nil {
		s.file, err = os.Stat(abs)
	}
	if err != nil {
		_ = s.closeFiles() // what is wrong was said already
		return nil, err
	}
	return s, nil
}

// openDB returns a pool of at most n connections. Nothing is opened yet.
func openDB(abs string, n int, options string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn(abs, "rwc")+
		"&_synchronous=FULL"+
		"&_pragma=wal_autocheckpoint("+strconv.Itoa(checkpointPages)+")"+
		"&_pragma=journal_size_limit("+strconv.Itoa(journalSizeLimit)+")"+
		"&_pragma=temp_store(memory)"+ // what undoes half a statement
		"&_dqs=0&_error_rc=1&"+options)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// dsn names the file as an SQLite URI, in which every character of a path can be written.
func dsn(abs, mode string) string {
	p := filepath.ToSlash(abs)
	if p[0] != '/' {
		p = "/" + p // C:/…
	}
	return (&url.URL{Scheme: "file", Path: p}).String() + "?mode=" + mode
}

// prepare brings the file to this version and reads what is constant about it.
func (s *Store) prepare(ctx context.Context, opts *Options) error {
	if err := s.migrate(ctx, opts); err != nil {
		return err
	}
	err := s.readers.QueryRowContext(ctx, `SELECT
		(SELECT value FROM settings WHERE name = 'origin'),
		(SELECT value FROM settings WHERE name = 'epoch'),
		(SELECT value FROM settings WHERE name = 'max_event_bytes')`).Scan(&s.origin, &s.epoch, &s.limit)
	if err != nil {
		return err
	}
	if opts.Origin != "" && opts.Origin != s.origin {
		return fmt.Errorf("%w: the log in this file is named %q, not %q: give its own name or none", pulse.ErrInvalid, s.origin, opts.Origin)
	}
	s.inserts = newInserts(s.epoch)
	s.prepared = map[string]*sql.Stmt{}
	for _, query := range []string{
		s.inserts.one, s.inserts.chunk,
		currentSQL, overlapSQL, rowsSQL, markSQL, putSQL, removeSQL, moveSQL, forgetSQL, pruneSQL, renewSQL,
	} {
		if s.prepared[query], err = s.writer.PrepareContext(ctx, query); err != nil {
			return err
		}
	}
	if s.head, err = s.readers.PrepareContext(ctx, headSQL); err != nil {
		return err
	}
	if s.page, err = s.readers.PrepareContext(ctx, pageSQL); err != nil {
		return err
	}
	if s.states, err = s.readers.PrepareContext(ctx, statesSQL); err != nil {
		return err
	}
	return s.checkEnds(ctx)
}

// checkEnds reads the first and the last event: a file that was cut or overwritten shows it there first. It costs
// the same for every size of the log.
func (s *Store) checkEnds(ctx context.Context) error {
	head, err := s.readHead(ctx)
	if err != nil || head == 0 {
		return err
	}
	for _, p := range []pulse.Position{1, head} {
		if _, _, err := s.scan(ctx, p-1, p, 1); err != nil {
			return err
		}
	}
	return nil
}

// Close waits for running calls, except functions given to Transact, whose transactions can then no longer commit. It moves what is
// in the WAL into the file. Every later call returns ErrClosed; a second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.calls.Wait()
	s.mu.Lock()
	idle := s.open == 0 // else a function given to Transact still runs, and its end retires the connection
	s.mu.Unlock()
	var err error
	if idle {
		err = s.retireWriter()
	}
	if err = errors.Join(err, s.closeFiles()); err != nil {
		return fail("close", err)
	}
	return nil
}

// count changes the number of open transactions and reports whether the store was closed.
func (s *Store) count(change int) (closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += change
	return s.closed
}

func (s *Store) retireWriter() error {
	conn, err := s.writer.Conn(context.Background()) // free, or about to be
	if err != nil {
		return err
	}
	return errors.Join(s.retire(conn), conn.Close())
}

// closeFiles closes the readers first: the last connection moves the WAL into the file, which readers may not.
func (s *Store) closeFiles() error {
	return errors.Join(s.readers.Close(), s.writer.Close())
}

// enter begins a call of a method, unless the store is closed, or its file or the caller has gone. leave ends it.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("%w: the store was closed: close it after all that use it", pulse.ErrClosed)
	}
	s.calls.Add(1)
	s.mu.Unlock()
	err := s.inPlace()
	if err != nil {
		s.leave()
	}
	return err
}

// inPlace finds out that the file is not the one any more that was opened: what would be written to that is lost with the process.
func (s *Store) inPlace() error {
	file, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(file, s.file) {
		return fmt.Errorf("%w: the file %s was moved, removed or replaced while it was open, and nothing is written any more: "+
			"bring it back, or start this process again with the one that is there", pulse.ErrStore, s.path)
	}
	return nil
}

func (s *Store) leave() { s.calls.Done() }

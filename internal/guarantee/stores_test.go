//go:build unix

package guarantee

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/sqlitestore"
)

// kind is a sort of store that the promises are proved with.
type kind struct {
	name    string
	durable bool // a log outlives the process, and several processes may use it
	create  func(ctx context.Context, dir string) (place, error)
	find    func(location string) place // of a durable log, for another process
}

// kinds lists all stores: to prove the promises with another one, add it here. Under the race detector SQLite is about twenty times
// slower: there the promises are proved in memory, and the stores have tests of their own. PostgreSQL takes more time than CI has.
func kinds() []kind {
	memory := kind{name: "memory", create: createMemory}
	if underRace {
		return []kind{memory}
	}
	all := []kind{
		memory,
		{name: "sqlite", durable: true, create: createSQLite, find: func(location string) place { return &sqlitePlace{location} }},
	}
	if os.Getenv(withPostgres) != "" {
		all = append(all, kind{name: "postgres", durable: true, create: createPostgres, find: func(location string) place { return &postgresPlace{location} }})
	}
	return all
}

// place is where one log is, with a table beside it for the effects of handlers and other things a user writes.
type place interface {
	// location finds the place from another process; "" when that is not possible.
	location() string
	// open opens the store; closed, it can be opened again.
	open(ctx context.Context) (store full, closeStore func() error, err error)
	// transactions are the ways to emit in a transaction, by name.
	transactions(w *world) map[string]transaction
	// onTx is the adapter's OnTx.
	onTx(fn func(ctx context.Context, tx any, e lesson) error) pulse.SubscribeOption
	// write writes one effect in the adapter's own transaction, in which e emits. Nothing keeps a second one of the same n out.
	write(ctx context.Context, tx any, e pulse.Emitter, n int) error
	// written returns the effects in the order in which they were written.
	written(ctx context.Context, store pulse.Store) ([]int, error)
	// check looks for damage.
	check(ctx context.Context) error
}

// full is a store with every ability that subscriptions need.
type full interface {
	pulse.Store
	pulse.Transactor
	pulse.Leases
	pulse.Subscriptions
	pulse.Deliveries
}

// transaction runs fn in a transaction of the adapter's own type, in which e emits, and commits if it returns nil.
type transaction func(ctx context.Context, fn func(tx any, e pulse.Emitter) error) error

// transact is the store's Transact as a transaction.
func (w *world) transact(ctx context.Context, fn func(tx any, e pulse.Emitter) error) error {
	return w.store.Transact(ctx, func(_ context.Context, tx pulse.Tx) error { return fn(tx.Unwrap(), w.bus.In(tx)) })
}

// each runs a test for every store.
func each(t *testing.T, fn func(t *testing.T, k kind)) {
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) { fn(t, k) })
	}
}

// eachDurable runs a test for every store that outlives the process.
func eachDurable(t *testing.T, fn func(t *testing.T, k kind)) {
	if underRace {
		t.Skip("under the race detector there is no durable store, see kinds")
	}
	for _, k := range kinds() {
		if k.durable {
			t.Run(k.name, func(t *testing.T) { fn(t, k) })
		}
	}
}

// memoryPlace is a store in memory. Opened again, it is the same one.
type memoryPlace struct{ store *memstore.Store }

func createMemory(context.Context, string) (place, error) {
	return &memoryPlace{memstore.New(nil)}, nil
}

func (p *memoryPlace) location() string { return "" }

func (p *memoryPlace) open(context.Context) (full, func() error, error) {
	return p.store, func() error { return nil }, nil
}

func (p *memoryPlace) transactions(w *world) map[string]transaction {
	return map[string]transaction{
		"Transact": w.transact,
		"Do": func(ctx context.Context, fn func(tx any, e pulse.Emitter) error) error {
			return memstore.Do(ctx, p.store, w.bus, func(tx *memstore.Tx, e pulse.Emitter) error { return fn(tx, e) })
		},
	}
}

func (p *memoryPlace) onTx(fn func(ctx context.Context, tx any, e lesson) error) pulse.SubscribeOption {
	return pulse.OnTx(func(ctx context.Context, tx pulse.Tx, e lesson) error { return fn(ctx, tx, e) })
}

// effectName names the events that are the effects in memory, where there is nothing else to write.
const effectName = "effect.written"

func (p *memoryPlace) write(ctx context.Context, _ any, e pulse.Emitter, n int) error {
	_, err := e.Emit(ctx, pulse.Raw{Name: effectName, Data: fmt.Appendf(nil, `{"n":%d}`, n)})
	return err
}

func (p *memoryPlace) written(ctx context.Context, store pulse.Store) (effects []int, err error) {
	for q := (pulse.Query{Name: effectName}); ; {
		page, err := store.Read(ctx, q)
		if err != nil || page.Next == q.After {
			return effects, err
		}
		q.After = page.Next
		for _, env := range page.Envelopes {
			var effect struct{ N int }
			if err := json.Unmarshal(env.Data, &effect); err != nil {
				return nil, err
			}
			effects = append(effects, effect.N)
		}
	}
}

func (p *memoryPlace) check(context.Context) error { return nil }

// sqlitePlace is a file.
type sqlitePlace struct{ path string }

func createSQLite(ctx context.Context, dir string) (place, error) {
	p := &sqlitePlace{filepath.Join(dir, "school.db")}
	store, closeStore, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	err = store.Transact(ctx, func(_ context.Context, tx pulse.Tx) error {
		_, err := tx.Unwrap().(*sql.Tx).Exec("CREATE TABLE effects (n INTEGER NOT NULL)")
		return err
	})
	if closeErr := closeStore(); err == nil {
		err = closeErr
	}
	return p, err
}

func (p *sqlitePlace) location() string { return p.path }

func (p *sqlitePlace) open(ctx context.Context) (full, func() error, error) {
	store, err := sqlitestore.Open(ctx, p.path, nil)
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}

func (p *sqlitePlace) transactions(w *world) map[string]transaction {
	return map[string]transaction{
		"Transact": w.transact,
		"Do": func(ctx context.Context, fn func(tx any, e pulse.Emitter) error) error {
			return sqlitestore.Do(ctx, w.raw.(*sqlitestore.Store), w.bus, func(tx *sql.Tx, e pulse.Emitter) error { return fn(tx, e) })
		},
		"Tx": func(ctx context.Context, fn func(tx any, e pulse.Emitter) error) error {
			return p.ownTransaction(ctx, w, fn)
		},
	}
}

// ownTransaction emits in a transaction that the user began on a connection of their own.
func (p *sqlitePlace) ownTransaction(ctx context.Context, w *world, fn func(tx any, e pulse.Emitter) error) error {
	db, err := openUserDB(p.path)
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	if err := fn(tx, w.bus.In(sqlitestore.Tx(tx))); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	w.bus.Wake()
	return nil
}

func (p *sqlitePlace) onTx(fn func(ctx context.Context, tx any, e lesson) error) pulse.SubscribeOption {
	return sqlitestore.OnTx(func(ctx context.Context, tx *sql.Tx, e lesson) error { return fn(ctx, tx, e) })
}

func (p *sqlitePlace) write(_ context.Context, tx any, _ pulse.Emitter, n int) error {
	_, err := tx.(*sql.Tx).Exec("INSERT INTO effects (n) VALUES (?)", n)
	return err
}

func (p *sqlitePlace) written(ctx context.Context, _ pulse.Store) (effects []int, err error) {
	return effects, p.query(ctx, "SELECT n FROM effects ORDER BY rowid", func(rows *sql.Rows) error {
		var n int
		err := rows.Scan(&n)
		effects = append(effects, n)
		return err
	})
}

func (p *sqlitePlace) check(ctx context.Context) error {
	for _, pragma := range []string{"integrity_check", "foreign_key_check"} {
		err := p.query(ctx, "PRAGMA "+pragma, func(rows *sql.Rows) error {
			var answer string
			if err := rows.Scan(&answer); err != nil {
				return err
			}
			if answer != "ok" {
				return fmt.Errorf("%s: %s", pragma, answer)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// query looks into the file as somebody else would, without the store.
func (p *sqlitePlace) query(ctx context.Context, query string, each func(*sql.Rows) error) error {
	db, err := openUserDB(p.path)
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// openUserDB opens the file as a program does that has tables of its own in it.
func openUserDB(path string) (*sql.DB, error) {
	return sql.Open("sqlite", fmt.Sprintf("file:%s?_txlock=immediate&_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)",
		path, patience.Milliseconds()))
}

// newPlace makes a place for a test.
func newPlace(t testing.TB, k kind) place {
	t.Helper()
	p, err := k.create(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// once makes a function that may be called again and does nothing then.
func once(fn func() error) func() error { return sync.OnceValue(fn) }

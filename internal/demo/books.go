package demo

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/edupulse-live/pulse"
)

// books are the handler's own table, beside the log: which events it handled, in which order. A batch is one row.
type books interface {
	create(ctx context.Context) error // unless it is there
	clear(ctx context.Context) error
	add(ctx context.Context, ids []byte) (batch int64, err error)
	each(ctx context.Context, fn func(batch int64, ids []byte)) error // in order; ids are valid during the call
}

// inBooks runs fn in a transaction of the store's database.
func inBooks(ctx context.Context, store pulse.Transactor, schema string, fn func(b books) error) error {
	return store.Transact(ctx, func(_ context.Context, tx pulse.Tx) error {
		b, err := booksIn(tx, schema)
		if err != nil {
			return err
		}
		return fn(b)
	})
}

// booksIn are the books in a transaction; schema is that of the log in PostgreSQL.
func booksIn(tx pulse.Tx, schema string) (books, error) {
	switch own := tx.Unwrap().(type) {
	case *sql.Tx:
		return sqliteBooks{own}, nil
	case pgx.Tx:
		return postgresBooks{own, pgx.Identifier{schema, "demo_handled"}.Sanitize()}, nil
	}
	return nil, fmt.Errorf("%w: the demo keeps its books in tables beside the log, which this store has not", pulse.ErrInvalid)
}

type sqliteBooks struct{ tx *sql.Tx }

func (b sqliteBooks) create(ctx context.Context) error {
	_, err := b.tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS demo_handled (batch INTEGER PRIMARY KEY, ids BLOB NOT NULL) STRICT")
	return err
}

func (b sqliteBooks) clear(ctx context.Context) error {
	_, err := b.tx.ExecContext(ctx, "DELETE FROM demo_handled")
	return err
}

func (b sqliteBooks) add(ctx context.Context, ids []byte) (int64, error) {
	res, err := b.tx.ExecContext(ctx, "INSERT INTO demo_handled (ids) VALUES (?)", ids)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (b sqliteBooks) each(ctx context.Context, fn func(batch int64, ids []byte)) error {
	rows, err := b.tx.QueryContext(ctx, "SELECT batch, ids FROM demo_handled ORDER BY batch")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var batch int64
		var ids sql.RawBytes
		if err := rows.Scan(&batch, &ids); err != nil {
			return err
		}
		fn(batch, ids)
	}
	return rows.Err()
}

type postgresBooks struct {
	tx    pgx.Tx
	table string
}

func (b postgresBooks) create(ctx context.Context) error {
	_, err := b.tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+b.table+" (batch bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ids bytea NOT NULL)")
	return err
}

func (b postgresBooks) clear(ctx context.Context) error {
	_, err := b.tx.Exec(ctx, "DELETE FROM "+b.table)
	return err
}

func (b postgresBooks) add(ctx context.Context, ids []byte) (batch int64, err error) {
	err = b.tx.QueryRow(ctx, "INSERT INTO "+b.table+" (ids) VALUES ($1::bytea) RETURNING batch", ids).Scan(&batch)
	return batch, err
}

func (b postgresBooks) each(ctx context.Context, fn func(batch int64, ids []byte)) error {
	rows, err := b.tx.Query(ctx, "SELECT batch, ids FROM "+b.table+" ORDER BY batch")
	if err != nil {
		return err
	}
	var batch int64
	var ids []byte
	_, err = pgx.ForEachRow(rows, []any{&batch, &ids}, func() error {
		fn(batch, ids)
		return nil
	})
	return err
}

// Package pgstore keeps a log in PostgreSQL 14 or newer. It is a complete store: events, subscriptions, retries and dead letters live in
// tables of one schema, beside the application's own, so that an event can be emitted in the transaction that it tells of.
//
//	store, err := pgstore.Open(ctx, "postgres://app@db/school", nil)
//
// Any number of processes may use one log. Append is one statement and one round trip. Positions are given by whoever calls Info,
// in one statement that compares two snapshots: it takes no lock that emitting would wait for, misses no commit however late, and
// is not held up by transactions that are open for long.
//
// Events of one key are in the order in which they were emitted if each is emitted while its transaction holds a lock that stands
// for the key, such as that of the row it is about. The events of one Append stand next to each other, up to 4096 of them.
//
// It works behind a pooler in transaction mode, where no statement is prepared by name and nothing is kept in a session. A pool of your
// own must be configured for such a pooler by you, with pgx.QueryExecModeExec. Hints do not pass such a pooler, so that what other
// processes emit is found up to 20 ms later.
//
// Open makes the tables, and later brings them to its version. Where the application may not do that, somebody else calls Migrate, or runs
// the statements of Migrations, and grants the application's role what Grants returns.
//
// Not promised: order between events of one key that were emitted without such a lock; durability of what your own transaction
// commits with synchronous_commit off; protection against somebody who may drop the triggers that keep events as they are.
package pgstore

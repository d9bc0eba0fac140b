// Package sqlitestore keeps a log in one SQLite file. It is a complete store: events, subscriptions, retries and dead letters need
// no server beside it.
//
//	store, err := sqlitestore.Open(ctx, "school.db", nil)
//
// The file is in WAL mode and commits are synced, so that what Append acknowledged survives a crash of the process and, where the disk
// keeps its word, of the machine. Several processes may use one file on one machine; not on a network file
// system, where SQLite's locks do not work. Times of leases are the machine's.
//
// SQLite has one writer at a time. The store has one connection for writing and a few for reading, which do not wait for it. While a
// function given to Transact runs, all other writers of the file wait: keep it short. Those of other processes give up after 10 seconds, and
// a bus gives up saving what its handlers did after 30, and starts them again. Leases do not run out meanwhile: time stands still for them
// while a transaction of a store is open. To emit in a transaction of your own on the same file use Tx, or better Do. For leases time goes on during
// one of your own: after some seconds another process may take over what this one handles, or the other way round.
//
// Do not open the file with anything but SQLite in a process that has a store on it, not even to read: on Unix, closing it takes
// SQLite's locks away. VACUUM INTO makes a copy. The file gets the permissions that the process's umask leaves.
//
// An event's position is its row id. Triggers refuse to change and delete events, whoever tries.
//
// Not promised: durability on disks that lie about syncing, and protection against somebody who may write the file
// and takes the triggers away; that is what the ledger is for.
package sqlitestore

// Package pulse is a domain event bus: it records every significant change of an application durably, publishes it on
// a broker, and runs slow side effects apart from the code that made the change.
//
// A Bus emits events into the log of a Store and hands them to subscriptions:
//
//	store, err := sqlitestore.Open(ctx, "school.db", nil)
//	bus, err := pulse.New(store, &pulse.Options{Source: "/school"})
//	err = bus.Subscribe("mailer", pulse.On(func(ctx context.Context, e LessonPublished) error { … }))
//	id, err := bus.Emit(ctx, LessonPublished{…}) // durable when err == nil
//	err = bus.Run(ctx)                           // blocks; drains when ctx ends
//
// # What is promised
//
// Emit returned nil: the event is in the log as durably as the store can make it; in your transaction (Bus.In), exactly if that
// commits. Emit failed: it is not, unless the error is an ErrUnknown; emitting the same id again is then safe.
// Positions in the log are gapless, growing and never change. A subscription gets every event it handles at least once;
// what a transactional handler writes into the store's own database happens exactly once for each event and generation. An
// ordered subscription handles the events of one key in the order they were emitted while holding that key's lock, also
// through failures and restarts. A failing delivery is tried again with growing waits and then kept as a dead letter.
//
// Not promised: exactly-once effects outside the store's database (use Delivery.IdempotencyKey), an order across keys,
// and more durability than the store has.
//
// # The ports
//
// Domain code needs Emitter. Adapters implement ports of at most three methods, proved by the suites in
// storetest and brokertest:
//
//	Store          Append, Read, Info            the durable log; the only one a Bus cannot do without
//	Appender       Append                        a Store, or a transaction bound by Bus.In
//	Transactor     Transact                      optional: transactions for handlers
//	Tx             Append, Mark, Unwrap          one such transaction
//	Leases         Acquire, Release              one active instance of a subscription
//	Subscriptions  Register, States, Control     what is known of each subscription
//	Deliveries     Advance, List, Settle         cursors, retries and dead letters
//	Indexer        Index                         optional: an index of the log filled behind it
//	Publisher      PublishBatch, Last, Capabilities   out to a broker
//	Source, Feed   Open; Fetch, Ack, Close       in from a broker
package pulse

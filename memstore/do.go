package memstore

import (
	"context"

	"github.com/edupulse-live/pulse"
)

// Do runs fn in a transaction of the store: what it emits through e exists if it returns nil, and none of it
// otherwise. Other transactions and appends go on meanwhile. Afterwards it wakes the bus.
func Do(ctx context.Context, store *Store, bus *pulse.Bus, fn func(tx *Tx, e pulse.Emitter) error) error {
	defer bus.Wake()
	return store.Transact(ctx, func(_ context.Context, tx pulse.Tx) error {
		return fn(tx.(*Tx), bus.InUntilWake(tx))
	})
}

package pgstore

import "context"

// ReadAfter is a reading whose context is ended by before at the last moment before the queries are sent.
func (s *Store) ReadAfter(ctx context.Context, before func()) error {
	v, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	v.query("SELECT 1", nil)
	before()
	_, _, err = v.number()
	return err
}

// PruneEntries is how many inbox entries one call of Advance takes away at most.
const PruneEntries = pruneEntries

// PruneInboxSQL is the statement that takes up to $3 superfluous inbox entries away, of a subscription ($1) in a generation ($2), and the one
// before it.
func PruneInboxSQL(s *Store) (before, prune string) { return planPruneSQL, s.schema.sql(pruneInboxSQL) }

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

// PruneInboxSQL is the statement that takes superfluous inbox entries away, of a subscription ($1) in a generation ($2).
func PruneInboxSQL(s *Store) string { return s.schema.sql(pruneInboxSQL) }

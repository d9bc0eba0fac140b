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

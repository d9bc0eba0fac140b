package sqlitestore

import (
	"database/sql"
	"fmt"
	"slices"
	"strconv"

	"github.com/edupulse-live/pulse"
)

const (
	// overlapSQL finds the runs that may have positions from ?3 to ?4: the last one that begins before, and those that begin there.
	overlapSQL = `SELECT first, last FROM inbox WHERE subscription = ?1 AND generation = ?2 AND first <= ?4
		AND first >= coalesce((SELECT max(first) FROM inbox WHERE subscription = ?1 AND generation = ?2 AND first <= ?3), ?3)
		ORDER BY first`

	rowsSQL = "SELECT position FROM deliveries WHERE subscription = ? AND position IN (SELECT value FROM json_each(?))"

	// markSQL takes runs as a JSON array of pairs.
	markSQL = `INSERT INTO inbox (subscription, generation, first, last)
		SELECT ?1, ?2, value ->> 0, value ->> 1 FROM json_each(?3) WHERE true ON CONFLICT DO NOTHING`

	// pruneSQL takes a number of runs away that the cursor makes superfluous. One with a delivery that still has a row is
	// needed: its effect may exist although the row says that it will be tried again.
	pruneSQL = `DELETE FROM inbox WHERE subscription = ?1 AND generation = ?2 AND first IN (
		SELECT first FROM inbox AS i WHERE subscription = ?1 AND generation = ?2 AND first <= ?3 AND last <= ?3
		AND NOT EXISTS (SELECT 1 FROM deliveries WHERE subscription = ?1 AND position BETWEEN i.first AND i.last)
		LIMIT 5000)`
)

// run is deliveries that are next to each other in the log.
type run struct{ first, last pulse.Position }

// mark enters positions into the inbox of the lease's generation and returns those that are handled already.
func (s *Store) mark(tx *sql.Tx, lease pulse.Lease, positions []pulse.Position) (seen []pulse.Position, err error) {
	h, err := s.current(tx, lease)
	if err != nil || len(positions) == 0 {
		return nil, err
	}
	positions = slices.Clone(positions)
	slices.Sort(positions)
	entered, err := s.entered(tx, lease, positions)
	if err != nil {
		return nil, err
	}
	rows, err := s.rowsBelow(tx, lease.Name, h.cursor, positions)
	if err != nil {
		return nil, err
	}
	var fresh []run
	for _, p := range positions {
		for len(entered) > 0 && entered[0].last < p {
			entered = entered[1:]
		}
		n := len(fresh)
		switch {
		case len(entered) > 0 && entered[0].first <= p, // the inbox has it
			p <= h.cursor && !rows[p],     // the cursor has passed it and left no row
			n > 0 && fresh[n-1].last == p: // a second one in this call comes too late
			seen = append(seen, p)
		case n > 0 && fresh[n-1].last == p-1:
			fresh[n-1].last = p
		default:
			fresh = append(fresh, run{p, p})
		}
	}
	return seen, s.enterRuns(tx, lease, fresh)
}

// entered returns the runs in the inbox, in order, that may have some of positions, which are sorted.
func (s *Store) entered(tx *sql.Tx, lease pulse.Lease, positions []pulse.Position) (runs []run, err error) {
	found, err := tx.Stmt(s.prepared[overlapSQL]).Query(lease.Name, lease.Generation, positions[0], positions[len(positions)-1])
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var r run
		if err := found.Scan(&r.first, &r.last); err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, found.Err()
}

// rowsBelow returns those of positions, which are sorted, up to the cursor that have a row.
func (s *Store) rowsBelow(tx *sql.Tx, subscription string, cursor pulse.Position, positions []pulse.Position) (map[pulse.Position]bool, error) {
	if positions[0] > cursor {
		return nil, nil
	}
	found, err := tx.Stmt(s.prepared[rowsSQL]).Query(subscription, jsonArray(positions))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	rows := map[pulse.Position]bool{}
	for found.Next() {
		var p pulse.Position
		if err := found.Scan(&p); err != nil {
			return nil, err
		}
		rows[p] = true
	}
	return rows, found.Err()
}

func (s *Store) enterRuns(tx *sql.Tx, lease pulse.Lease, runs []run) error {
	if len(runs) == 0 {
		return nil
	}
	pairs := make([]byte, 0, 2+24*len(runs))
	for i, r := range runs {
		pairs = append(pairs, "[,"[min(i, 1)], '[')
		pairs = append(strconv.AppendInt(pairs, int64(r.first), 10), ',')
		pairs = append(strconv.AppendInt(pairs, int64(r.last), 10), ']')
	}
	n, err := s.exec(tx, markSQL, lease.Name, lease.Generation, string(append(pairs, ']')))
	if err == nil && n != int64(len(runs)) {
		err = fmt.Errorf("%w: %d of %d entries were made in the inbox of subscription %q: the file is damaged", pulse.ErrStore, n, len(runs), lease.Name)
	}
	return err
}

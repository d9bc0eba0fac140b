package app

import (
	"context"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// How much of a long log the doctor reads, in events.
const (
	oldestChecked = 10_000
	newestChecked = 90_000
)

// recordReader is the ability of a store to give its events with what proves them.
type recordReader interface {
	Records(ctx context.Context, after pulse.Position, limit int) ([]pulse.Record, error)
}

// sequence reads the beginning and the end of the log, all of it when it is short, and looks for gaps; then it verifies the
// commitments there, when the store can give what they are made of.
func (d *doctor) sequence(ctx context.Context) {
	if d.info.Head == 0 {
		d.found("sequence", OK, "the log is empty")
		return
	}
	spans := [][2]pulse.Position{{0, d.info.Head}}
	what := "all " + many(int64(d.info.Head), "event")
	if d.info.Head > oldestChecked+newestChecked {
		spans = [][2]pulse.Position{{0, oldestChecked}, {d.info.Head - newestChecked, d.info.Head}}
		what = fmt.Sprintf("the oldest %d and the newest %d events", oldestChecked, newestChecked)
	}
	for _, span := range spans {
		if err := d.gapless(ctx, span[0], span[1]); err != nil {
			d.found("sequence", Fail, "%v", err)
			return
		}
	}
	d.found("sequence", OK, "no gap in %s", what)
	d.commitments(ctx, spans, what)
}

// gapless reads the positions in (after, through].
func (d *doctor) gapless(ctx context.Context, after, through pulse.Position) error {
	expect := after + 1
	for e, err := range d.app.Bus.Log(ctx, pulse.Query{After: after, Through: through}) {
		switch {
		case err != nil:
			return err
		case e.Position != expect:
			return fmt.Errorf("position %d is missing: the log is damaged, restore a backup", expect)
		}
		expect++
	}
	if expect != through+1 {
		return fmt.Errorf("position %d is missing: the log is damaged, restore a backup", expect)
	}
	return nil
}

// commitments recomputes the commitments of the events in spans. Those that are marked as purged cannot be verified, and nothing in this version marks them.
func (d *doctor) commitments(ctx context.Context, spans [][2]pulse.Position, what string) {
	store, ok := d.app.Store.(recordReader)
	if !ok {
		return
	}
	const page = 500
	left := int64(0)
	for _, span := range spans {
		left += int64(span[1] - span[0])
		for after := span[0]; after < span[1]; {
			recs, err := store.Records(ctx, after, page)
			for i := range recs {
				if err == nil {
					err = recs[i].Verify()
				}
				if recs[i].Position <= span[1] {
					left--
				}
			}
			if err != nil {
				d.found("commitments", Fail, "%v", err)
				return
			}
			if len(recs) == 0 {
				break
			}
			after = recs[len(recs)-1].Position
		}
	}
	if left > 0 {
		d.found("commitments", Fail, "%s of %s cannot be verified, as a purge is marked there (purged_by): this version purges nothing, so that others changed the table: "+
			"compare with a backup", many(left, "event"), what)
		return
	}
	d.found("commitments", OK, "%s are what was committed", what)
}

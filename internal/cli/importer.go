package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/internal/app"
)

// A chunk is what an import writes at once: enough for speed, and little enough for memory.
const (
	chunkEvents = 500
	chunkBytes  = 4 << 20
)

// importer writes the events of CloudEvents lines to a store, in the order of the lines. An event that is there
// already changes nothing, so that an import can be repeated.
type importer struct {
	app *app.App
	bad func(line int, err error) error // told of lines that cannot be imported; an error ends the import

	chunk recordCollector
	lines []int // of the records in chunk
	size  int

	summary importSummary
}

// importSummary is what became of the lines.
type importSummary struct {
	Lines    int  `json:"lines"` // read, empty ones not counted
	New      int  `json:"new"`
	Known    int  `json:"known"` // were there already
	Bad      int  `json:"bad"`
	Complete bool `json:"complete"` // the end of the input was reached
}

// recordCollector is an Appender that keeps records, so that Emit makes and checks them and they are stored together later.
type recordCollector struct{ recs []pulse.Record }

// Append keeps recs, which Emit made for this call alone.
func (c *recordCollector) Append(_ context.Context, recs []pulse.Record) error {
	c.recs = append(c.recs, recs...)
	return nil
}

// run imports all lines of r, or until ctx ends: then what was read is stored.
func (im *importer) run(ctx context.Context, r *lineReader) error {
	for {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, im.flush(context.WithoutCancel(ctx)))
		}
		line, err := r.next()
		switch {
		case err == io.EOF:
			if err := im.flush(ctx); err != nil {
				return err
			}
			im.summary.Complete = true
			return nil
		case errors.Is(err, errLineTooLong):
			err = fmt.Errorf("%w: more than %d bytes, the store takes no such event", err, r.max)
		case err != nil:
			return errors.Join(fmt.Errorf("read line %d: %w", r.number+1, err), im.flush(context.WithoutCancel(ctx)))
		case len(bytes.TrimSpace(line)) == 0:
			continue
		default:
			if r.number == 1 {
				line = bytes.TrimPrefix(line, []byte("\ufeff")) // of files from Windows
			}
			err = im.add(ctx, line, r.number)
		}
		im.summary.Lines++
		if err := im.judge(ctx, r.number, err); err != nil {
			return err
		}
		if len(im.chunk.recs) >= chunkEvents || im.size >= chunkBytes {
			if err := im.flush(ctx); err != nil {
				return err
			}
		}
	}
}

// judge passes a bad line on, after the good ones before it were stored.
func (im *importer) judge(ctx context.Context, line int, err error) error {
	if err == nil {
		return nil
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	im.summary.Bad++
	return im.bad(line, err)
}

// add turns a line into a record of the chunk.
func (im *importer) add(ctx context.Context, line []byte, number int) error {
	e, err := cloudevents.Unmarshal(line)
	if err != nil {
		return err
	}
	_, err = im.app.Bus.In(&im.chunk).Emit(context.WithoutCancel(ctx), pulse.Raw{Name: e.Name, Version: e.Version, Key: e.Key, Data: e.Data},
		pulse.ID(e.ID), pulse.At(e.OccurredAt), pulse.By(e.Actor), pulse.CorrelatedTo(e.Correlation), pulse.CausedBy(e.Causation),
		pulse.Traced(e.Trace), pulse.FromSource(e.Source), pulse.Extended(e.Extensions))
	if err == nil {
		im.lines = append(im.lines, number)
		im.size += len(line)
	}
	return err
}

// flush stores the chunk: at once, or line by line to find the one the store refuses.
func (im *importer) flush(ctx context.Context) error {
	recs, lines := im.chunk.recs, im.lines
	if len(recs) == 0 {
		return nil
	}
	im.chunk.recs, im.lines, im.size = recs[:0], lines[:0], 0
	err := im.store(ctx, recs)
	if !isContent(err) {
		return im.explain(err, lines[0])
	}
	for i := range recs {
		switch err := im.store(ctx, recs[i:i+1]); {
		case isContent(err):
			im.summary.Bad++
			if err := im.bad(lines[i], err); err != nil {
				return err
			}
		case err != nil:
			return im.explain(err, lines[i])
		}
	}
	return nil
}

// explain says how far the import has come when the store failed.
func (im *importer) explain(err error, line int) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("import from line %d on: %w; what was stored before stays: import it again to go on", line, err)
}

// isContent tells an error that is about the event itself, not about the store, or a right that is missing there.
func isContent(err error) bool {
	if app.LacksRight(err) {
		return false
	}
	return errors.Is(err, pulse.ErrConflict) || errors.Is(err, pulse.ErrInvalid) || errors.Is(err, pulse.ErrTooLarge)
}

// store appends recs and counts which of them are new: those that lie above what was the head.
func (im *importer) store(ctx context.Context, recs []pulse.Record) error {
	before, err := im.app.Store.Info(ctx)
	if err != nil {
		return err
	}
	if err := im.app.Store.Append(ctx, recs); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // it is stored: count it
	after, err := im.app.Store.Info(ctx)
	if err != nil {
		return err
	}
	mine := make(map[uuid.UUID]bool, len(recs))
	for i := range recs {
		mine[recs[i].ID] = true
	}
	fresh := 0
	for q := (pulse.Query{After: before.Head, Through: after.Head}); q.After < q.Through; {
		page, err := im.app.Store.Read(ctx, q)
		if err != nil {
			return err
		}
		for i := range page.Envelopes {
			if mine[page.Envelopes[i].ID] {
				fresh++
			}
		}
		if page.Next <= q.After {
			break
		}
		q.After = page.Next
	}
	im.summary.New += fresh
	im.summary.Known += len(recs) - fresh
	return nil
}

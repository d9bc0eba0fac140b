package cli

import (
	"context"
	"slices"

	"github.com/edupulse-live/pulse"
)

// readTail returns the last n events that q selects, and where to go on reading. A store reads forwards only, so windows of
// growing size are tried from the end of the log until enough is found.
func readTail(ctx context.Context, store pulse.Store, q pulse.Query, n int) ([]pulse.Envelope, pulse.Position, error) {
	info, err := store.Info(ctx)
	if err != nil {
		return nil, 0, err
	}
	q.Limit = 0
	var parts [][]pulse.Envelope // the last window first
	found, size := 0, pulse.Position(n)
	for high := info.Head; high > q.After && found < n; size *= 4 {
		low := max(q.After, high-size)
		part, err := lastOf(ctx, store, q, low, high, n-found)
		if err != nil {
			return nil, 0, err
		}
		parts = append(parts, part)
		found += len(part)
		high = low
	}
	slices.Reverse(parts)
	return slices.Concat(parts...), max(q.After, info.Head), nil
}

// lastOf returns the last n events that q selects with positions in (low, high].
func lastOf(ctx context.Context, store pulse.Store, q pulse.Query, low, high pulse.Position, n int) ([]pulse.Envelope, error) {
	var last []pulse.Envelope
	for q.After, q.Through = low, high; ; {
		page, err := store.Read(ctx, q)
		if err != nil {
			return nil, err
		}
		last = append(last, page.Envelopes...)
		last = slices.Clone(last[max(0, len(last)-n):])
		if page.Next <= q.After {
			return last, nil
		}
		q.After = page.Next
	}
}

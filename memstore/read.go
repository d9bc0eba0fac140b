package memstore

import (
	"context"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

const (
	// window is how many positions one Read looks at, at most, and so also the largest page.
	window = 1000
	// pageBytes ends a page: it is copied, and a reader of large events keeps what it was given.
	pageBytes = 4 << 20
)

// Read returns the envelopes that q selects; see pulse.Store. A page ends after 4 MiB, and one Read looks at no more than a thousand
// positions, so that a page may be empty although later ones are not.
func (s *Store) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	if err := s.enter(ctx, "read"); err != nil {
		return pulse.Page{}, err
	}
	defer s.mu.Unlock()
	last := s.head()
	if q.Through > 0 {
		last = min(last, q.Through)
	}
	page := pulse.Page{Next: max(q.After, 0)}
	last = min(last, page.Next+window)
	for size := 0; page.Next < last && size < pageBytes && (q.Limit <= 0 || len(page.Envelopes) < q.Limit); {
		page.Next++
		if env := &s.log[page.Next-1].Envelope; selects(&q, env) {
			page.Envelopes = append(page.Envelopes, copyEnvelope(env))
			size += env.Size()
		}
	}
	return page, nil
}

// selects reports whether env meets the conditions of q, except those on the position.
func selects(q *pulse.Query, env *pulse.Envelope) bool {
	return named(q, env.Name) &&
		(q.Key == "" || env.Key == q.Key) &&
		(q.Actor == uuid.Nil || env.Actor == q.Actor) &&
		(q.Correlation == "" || env.Correlation == q.Correlation) &&
		(q.Since.IsZero() || !env.OccurredAt.Before(q.Since)) &&
		(q.Until.IsZero() || env.OccurredAt.Before(q.Until))
}

// named reports whether any of q's names and patterns matches; without any, all do.
func named(q *pulse.Query, name string) bool {
	if q.Name == "" && len(q.Names) == 0 {
		return true
	}
	if q.Name != "" && pulse.MatchName(q.Name, name) {
		return true
	}
	for _, pattern := range q.Names {
		if pulse.MatchName(pattern, name) {
			return true
		}
	}
	return false
}

package memstore

import (
	"context"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// window is how many positions one Read looks at, at most, and so also the largest page.
const window = 1000

// Read returns the envelopes that q selects; see pulse.Store. One Read looks at no more than a thousand positions, so that a page
// may be empty although later ones are not.
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
	for page.Next < last && (q.Limit <= 0 || len(page.Envelopes) < q.Limit) {
		page.Next++
		if env := &s.log[page.Next-1].Envelope; selects(&q, env) {
			page.Envelopes = append(page.Envelopes, copyEnvelope(env))
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

package pulse

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
)

// Log iterates over the envelopes q selects, in order of position, up to the head of the log as it is when the
// iteration gets there: all that was emitted before it begins is in it. It reads page by page and holds no transaction open. An error
// ends the iteration. q.Limit bounds the number of envelopes; 0 means all.
func (b *Bus) Log(ctx context.Context, q Query) iter.Seq2[Envelope, error] {
	return func(yield func(Envelope, error) bool) {
		if _, err := b.store.Info(ctx); err != nil { // gives positions to what was emitted just now
			yield(Envelope{}, fmt.Errorf("look at the head of the log: %w", err))
			return
		}
		left := q.Limit
		for {
			page, err := b.store.Read(ctx, q)
			if err != nil {
				yield(Envelope{}, fmt.Errorf("read the log after position %d: %w", q.After, err))
				return
			}
			for _, env := range page.Envelopes {
				if !yield(env, nil) {
					return
				}
			}
			if left > 0 {
				if left -= len(page.Envelopes); left <= 0 {
					return
				}
				q.Limit = left
			}
			if page.Next <= q.After {
				return
			}
			q.After = page.Next
		}
	}
}

// Loaded is an event of type E read back from the log.
type Loaded[E Event] struct {
	Event    E
	Envelope Envelope
}

// Load iterates over the events of type E that q selects. q.Name defaults to the name of E. An
// envelope that does not decode is an ErrSerialization and ends the iteration.
func Load[E Event](ctx context.Context, b *Bus, q Query) iter.Seq2[Loaded[E], error] {
	return func(yield func(Loaded[E], error) bool) {
		if err := named[E]("Log"); err != nil {
			yield(Loaded[E]{}, fmt.Errorf("load: %w", err))
			return
		}
		if q.Name == "" {
			var zero E
			q.Name = zero.EventName()
		}
		for env, err := range b.Log(ctx, q) {
			l := Loaded[E]{Envelope: env}
			if err == nil {
				err = env.Decode(&l.Event)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// Decode unmarshals the payload into v, a pointer. The error is an ErrSerialization.
func (e *Envelope) Decode(v any) error {
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("%w: %s at position %d does not fit %T: %w", ErrSerialization, e.Name, e.Position, v, err)
	}
	return nil
}

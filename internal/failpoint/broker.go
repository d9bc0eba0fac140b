package failpoint

import (
	"context"
	"fmt"

	"github.com/edupulse-live/pulse"
)

// The points of a broker. They are as those of a store: "before" nothing has happened, "after" it has.
const (
	PublishBefore = "publish.before"
	PublishAfter  = "publish.after"
	LastBefore    = "last.before"
	LastAfter     = "last.after"
	FetchAfter    = "fetch.after"
	AckBefore     = "ack.before"
	AckAfter      = "ack.after"
)

// PublisherNames lists the points of a Publisher.
func PublisherNames() []string {
	return []string{PublishBefore, PublishAfter, LastBefore, LastAfter}
}

// SourceNames lists the points of a Source.
func SourceNames() []string { return []string{FetchAfter, AckBefore, AckAfter} }

// WrapPublisher returns p with the points.
func WrapPublisher(p pulse.Publisher, points *Points) pulse.Publisher {
	return &publisher{p, points}
}

type publisher struct {
	pulse.Publisher
	points *Points
}

// PublishBatch answers Unknown for all of a batch when a point fails: before it nothing was sent, after it all may be there.
func (p *publisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	if err := p.points.Hit(PublishBefore); err != nil {
		return unknown(len(envs), err)
	}
	results := p.Publisher.PublishBatch(ctx, envs)
	if err := p.points.Hit(PublishAfter); err != nil {
		return unknown(len(envs), err)
	}
	return results
}

func unknown(n int, err error) []pulse.Result {
	results := make([]pulse.Result, n)
	for i := range results {
		results[i].Err = fmt.Errorf("%w: %w", pulse.ErrBroker, err)
	}
	return results
}

func (p *publisher) Last(ctx context.Context) (last pulse.Cursor, ok bool, err error) {
	if err := p.points.Hit(LastBefore); err != nil {
		return pulse.Cursor{}, false, fmt.Errorf("%w: %w", pulse.ErrBroker, err)
	}
	last, ok, err = p.Publisher.Last(ctx)
	if hit := p.points.Hit(LastAfter); hit != nil && err == nil {
		return pulse.Cursor{}, false, fmt.Errorf("%w: %w", pulse.ErrBroker, hit)
	}
	return last, ok, err
}

// WrapSource returns s, whose feeds have the points.
func WrapSource(s pulse.Source, points *Points) pulse.Source { return &source{s, points} }

type source struct {
	pulse.Source
	points *Points
}

func (s *source) Open(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
	f, err := s.Source.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &feed{f, s.points}, nil
}

type feed struct {
	pulse.Feed
	points *Points
}

// Fetch loses what it has got when its point fails: those messages come again once the feed was closed.
func (f *feed) Fetch(ctx context.Context, max int) ([]pulse.Message, error) {
	msgs, err := f.Feed.Fetch(ctx, max)
	if err != nil {
		return nil, err
	}
	if err := f.points.Hit(FetchAfter); err != nil {
		return nil, fmt.Errorf("%w: %w", pulse.ErrBroker, err)
	}
	return msgs, nil
}

func (f *feed) Ack(ctx context.Context, receipts []uint64) error {
	if err := f.points.Hit(AckBefore); err != nil {
		return fmt.Errorf("%w: %w", pulse.ErrBroker, err)
	}
	if err := f.Feed.Ack(ctx, receipts); err != nil {
		return err
	}
	if err := f.points.Hit(AckAfter); err != nil {
		return fmt.Errorf("%w: %w", pulse.ErrBroker, err)
	}
	return nil
}

// Package logbroker is a broker for development: it writes each message to a log for people to read, and forgets it. Nothing can
// be read from it, and what was published there cannot be told from what was not.
//
//	err = bus.Publish("log", logbroker.New(slog.Default()))
//
// A message's key and the beginning of its payload are in the log, personal data included: it is not for production.
package logbroker

import (
	"context"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// excerpt is how many bytes of a payload are in the log at most.
const excerpt = 256

// New returns a publisher that writes to logger, at level Info, and acknowledges everything. A nil logger means slog.Default.
func New(logger *slog.Logger) *Publisher {
	if logger == nil {
		logger = slog.Default()
	}
	return &Publisher{logger: logger}
}

// Publisher is a destination of which only the log is seen.
type Publisher struct {
	logger   *slog.Logger
	sequence uint64
}

// PublishBatch writes one record for each envelope; see pulse.Publisher. It rejects none, and so withholds none.
func (p *Publisher) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	results := make([]pulse.Result, len(envs))
	for i := range envs {
		if err := ctx.Err(); err != nil {
			results[i].Err = fmt.Errorf("logbroker: %w: not written: %w", pulse.ErrBroker, err)
			continue
		}
		p.sequence++
		p.logger.LogAttrs(ctx, slog.LevelInfo, "published", attrs(&envs[i])...)
		results[i] = pulse.Result{Outcome: pulse.Acked, Sequence: p.sequence}
	}
	return results
}

// Last cannot tell.
func (p *Publisher) Last(context.Context) (last pulse.Cursor, ok bool, err error) {
	return pulse.Cursor{}, false, nil
}

// Capabilities are batches of up to 100 messages of any size.
func (p *Publisher) Capabilities() pulse.Capabilities { return pulse.Capabilities{MaxBatch: 100} }

// attrs says of an envelope what there is to say; what it has not is left out.
func attrs(env *pulse.Envelope) []slog.Attr {
	all := []slog.Attr{
		slog.Int64("position", int64(env.Position)),
		slog.String("event", env.Name),
		slog.Int("version", env.Version),
		slog.String("id", env.ID.String()),
	}
	for _, a := range [...]slog.Attr{
		slog.String("key", env.Key), slog.String("source", env.Source), slog.String("correlation", env.Correlation), slog.String("trace", env.Trace),
		slog.String("extensions", shorten(env.Extensions)),
	} {
		if a.Value.String() != "" {
			all = append(all, a)
		}
	}
	if env.Actor != uuid.Nil {
		all = append(all, slog.String("actor", env.Actor.String()))
	}
	if env.Causation != uuid.Nil {
		all = append(all, slog.String("causation", env.Causation.String()))
	}
	return append(all, slog.Time("occurred", env.OccurredAt), slog.Int("size", env.Size()), slog.String("data", shorten(env.Data)))
}

// shorten returns the beginning of a text, cut between two characters.
func shorten(text []byte) string {
	if len(text) <= excerpt {
		return string(text)
	}
	end := excerpt
	for end > excerpt-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return string(text[:end]) + "…"
}

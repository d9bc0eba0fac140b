package brokertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
)

// eachEnvelope plants a change of every envelope on its way out.
func eachEnvelope(change func(e *pulse.Envelope)) func(m *mutant) {
	return func(m *mutant) {
		m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
			for i := range envs {
				change(&envs[i])
			}
			return m.Publisher.PublishBatch(ctx, envs)
		}
	}
}

// eachResult plants a change of every answer to a published batch.
func eachResult(change func(rs []pulse.Result) []pulse.Result) func(m *mutant) {
	return func(m *mutant) {
		m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
			return change(m.Publisher.PublishBatch(ctx, envs))
		}
	}
}

// eachOpen plants a change of what every subscription wants.
func eachOpen(change func(c *pulse.FeedConfig)) func(m *mutant) {
	return func(m *mutant) {
		m.onOpen = func(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
			change(&cfg)
			return m.open(ctx, cfg)
		}
	}
}

// cannot is the answer to n messages that were not published.
func cannot(n int, outcome pulse.Outcome) []pulse.Result {
	return slices.Repeat([]pulse.Result{{Outcome: outcome, Err: pulse.ErrBroker}}, n)
}

const oversizeSentence = "an oversize message is Rejected, what is before it Acked, what is behind it Withheld and published when it comes again"

const lastSentence = "Last reports the highest position published and its commitment, also behind messages that came late"

func publisherBugs() []bug {
	return []bug{
		{
			"a result is missing", eachResult(func(rs []pulse.Result) []pulse.Result { return rs[:max(len(rs)-1, 0)] }),
			[]string{"PublishBatch returns one result for each envelope, in order"},
		},
		{"results are in reverse", eachResult(func(rs []pulse.Result) []pulse.Result {
			slices.Reverse(rs)
			return rs
		}), []string{"PublishBatch returns one result for each envelope, in order"}},
		{"an empty batch has a result", eachResult(func(rs []pulse.Result) []pulse.Result {
			if len(rs) == 0 {
				return make([]pulse.Result, 1)
			}
			return rs
		}), []string{"PublishBatch of no envelopes returns no results"}},
		{"large batches are cut", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				n := min(len(envs), 50)
				return append(m.Publisher.PublishBatch(ctx, envs[:n]), make([]pulse.Result, len(envs)-n)...)
			}
		}, []string{"a batch of MaxBatch envelopes is published"}},
		{"the caller's bytes are kept", func(m *mutant) {
			kept := make(map[uuid.UUID]json.RawMessage)
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				for _, env := range envs {
					kept[env.ID] = env.Data
				}
				return m.Publisher.PublishBatch(ctx, envs)
			}
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				msgs, err := f.Feed.Fetch(ctx, max)
				for i := range msgs {
					msgs[i].Data = kept[msgs[i].ID]
				}
				return msgs, err
			}
		}, []string{"PublishBatch keeps nothing of the envelopes", "the caller owns a message"}},
		{"batches are published in any order", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				rand.Shuffle(len(envs), func(i, j int) { envs[i], envs[j] = envs[j], envs[i] })
				return m.Publisher.PublishBatch(ctx, envs)
			}
		}, []string{"messages first appear in the order of publishing", "a feed goes on in order where the last one ended"}},
		{"a rejected message ends the batch", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				for i := range envs {
					if envs[i].Size() > 1<<20 {
						return append(m.Publisher.PublishBatch(ctx, envs[:i+1]), cannot(len(envs)-i-1, pulse.Unknown)...)
					}
				}
				return m.Publisher.PublishBatch(ctx, envs)
			}
		}, []string{oversizeSentence}},
		{"behind a rejected message the others are published", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) (rs []pulse.Result) {
				for i := range envs {
					rs = append(rs, m.Publisher.PublishBatch(ctx, envs[i:i+1])...)
				}
				return rs
			}
		}, []string{oversizeSentence}},
		{"what is withheld is published all the same", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				rs := m.Publisher.PublishBatch(ctx, envs)
				for i := range rs {
					if rs[i].Outcome == pulse.Withheld {
						m.Publisher.PublishBatch(ctx, envs[i:i+1])
					}
				}
				return rs
			}
		}, []string{oversizeSentence}},
		{"who was refused once is refused for ever", func(m *mutant) {
			refused := false
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				if refused {
					return append(cannot(1, pulse.Rejected), cannot(len(envs)-1, pulse.Withheld)...)
				}
				rs := m.Publisher.PublishBatch(ctx, envs)
				refused = slices.ContainsFunc(rs, func(r pulse.Result) bool { return r.Outcome == pulse.Rejected })
				return rs
			}
		}, []string{oversizeSentence}},
		{"an oversize message is unknown", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				rs := m.Publisher.PublishBatch(ctx, envs)
				for i := range rs {
					if rs[i].Outcome == pulse.Rejected {
						rs[i].Outcome = pulse.Unknown
					}
				}
				return rs
			}
		}, []string{oversizeSentence}},
		{"the limit is one byte too low", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				if slices.ContainsFunc(envs, func(e pulse.Envelope) bool { return e.Size() >= 1<<20 }) {
					return cannot(len(envs), pulse.Rejected)
				}
				return m.Publisher.PublishBatch(ctx, envs)
			}
		}, []string{"a message of exactly the limit is published"}},
		{"what is behind an unknown one is acknowledged", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				if ctx.Err() == nil || len(envs) == 1 {
					return m.Publisher.PublishBatch(ctx, envs)
				}
				return append(cannot(1, pulse.Unknown), m.Publisher.PublishBatch(context.WithoutCancel(ctx), envs[1:])...)
			}
		}, []string{"a cancelled context gives Unknown, and loses nothing that was Acked", "publishing again after a cancelled context is complete and in order"}},
		{"a cancelled context is a rejection", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				if ctx.Err() != nil {
					return cannot(len(envs), pulse.Rejected)
				}
				return m.Publisher.PublishBatch(ctx, envs)
			}
		}, []string{"a cancelled context gives Unknown, and loses nothing that was Acked"}},
		{"a cancelled batch is acknowledged and lost", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				if ctx.Err() != nil {
					return slices.Repeat([]pulse.Result{{Outcome: pulse.Acked}}, len(envs))
				}
				return m.Publisher.PublishBatch(ctx, envs)
			}
		}, []string{"a cancelled context gives Unknown, and loses nothing that was Acked"}},
		{"a cancelled batch is published in part, the last first", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				if ctx.Err() != nil {
					m.Publisher.PublishBatch(context.WithoutCancel(ctx), envs[len(envs)-1:])
					return cannot(len(envs), pulse.Unknown)
				}
				return m.Publisher.PublishBatch(ctx, envs)
			}
		}, []string{"publishing again after a cancelled context is complete and in order"}},
		{"nobody listening is an error", func(m *mutant) {
			m.onPublish = func(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
				if strings.HasPrefix(envs[0].Name, "nobody") {
					return cannot(len(envs), pulse.Unknown)
				}
				return m.Publisher.PublishBatch(ctx, envs)
			}
		}, []string{"nobody listening is not an error"}},
		{"the last message is the first", func(m *mutant) {
			m.onLast = func(context.Context) (pulse.Cursor, bool, error) {
				for _, env := range m.broker.Messages("school") {
					return pulse.Cursor{Position: env.Position, Commitment: env.Commitment}, true, nil
				}
				return pulse.Cursor{}, true, nil
			}
		}, []string{lastSentence}},
		{"Last is the message that came last", func(m *mutant) {
			m.onLast = func(context.Context) (last pulse.Cursor, ok bool, err error) {
				for _, env := range m.broker.Messages("school") {
					last = pulse.Cursor{Position: env.Position, Commitment: env.Commitment}
				}
				return last, true, nil
			}
		}, []string{lastSentence}},
		{"Last has the commitment of the message that came last", func(m *mutant) {
			m.onLast = func(ctx context.Context) (pulse.Cursor, bool, error) {
				last, ok, err := m.Publisher.Last(ctx)
				for _, env := range m.broker.Messages("school") {
					last.Commitment = env.Commitment
				}
				return last, ok, err
			}
		}, []string{lastSentence}},
		{"capabilities change", func(m *mutant) {
			m.onCapabilities = func() pulse.Capabilities { return pulse.Capabilities{MaxBatch: 10 + len(m.broker.Messages("school"))} }
		}, []string{"Capabilities are constant"}},
	}
}

func contentBugs() []bug {
	return []bug{
		{"a field does not travel", eachEnvelope(func(e *pulse.Envelope) { e.Causation = uuid.Nil }), []string{"every field comes as published"}},
		{"positions are 32 bits", eachEnvelope(func(e *pulse.Envelope) { e.Position = pulse.Position(int32(e.Position)) }), []string{"every field comes as published"}},
		{"no key is a key", eachEnvelope(func(e *pulse.Envelope) {
			if e.Key == "" {
				e.Key = "none"
			}
		}), []string{"empty optional fields come empty"}},
		{"extensions are lost", eachEnvelope(func(e *pulse.Envelope) { e.Extensions = nil }), []string{"extensions come with their names, types and values"}},
		{"JSON is made compact", eachEnvelope(func(e *pulse.Envelope) {
			var b bytes.Buffer
			_ = json.Compact(&b, e.Data)
			e.Data = b.Bytes()
		}), []string{"payload bytes come exactly"}},
		{"headers are ASCII", eachEnvelope(func(e *pulse.Envelope) {
			e.Key = strings.Map(func(r rune) rune {
				if r > 126 {
					return '?'
				}
				return r
			}, e.Key)
		}), []string{"text comes exactly"}},
		{
			"times are in milliseconds", eachEnvelope(func(e *pulse.Envelope) { e.OccurredAt = e.OccurredAt.Truncate(time.Millisecond) }),
			[]string{"times come in microseconds, in UTC"},
		},
		{"payloads are cut", eachEnvelope(func(e *pulse.Envelope) { e.Data = e.Data[:min(len(e.Data), 64<<10)] }), []string{"a large payload comes whole"}},
	}
}

func feedBugs() []bug {
	return append(deliveryBugs(), []bug{
		{"acknowledging does nothing", func(m *mutant) {
			m.onAck = func(context.Context, *mutantFeed, []uint64) error { return nil }
		}, []string{"an acknowledged message does not come again", "Ack acknowledges exactly the messages with these receipts", "Ack may run beside Fetch"}},
		{"everything is acknowledged by itself", func(m *mutant) {
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				msgs, err := f.Feed.Fetch(ctx, max)
				return msgs, errors.Join(err, ackIfAny(ctx, f, msgs))
			}
			m.onAck = func(context.Context, *mutantFeed, []uint64) error { return nil }
		}, []string{
			"an unacknowledged message comes again after Close", "Ack acknowledges exactly the messages with these receipts", "Ack of no messages acknowledges none",
			"a message may come again many times", "no more than Window messages are out without acknowledgement",
		}},
		{"all up to a message are acknowledged with it", func(m *mutant) {
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				msgs, err := f.Feed.Fetch(ctx, max)
				f.kept = append(f.kept, receiptsOf(msgs)...)
				return msgs, err
			}
			m.onAck = func(ctx context.Context, f *mutantFeed, receipts []uint64) error {
				for _, receipt := range receipts {
					upTo := slices.Index(f.kept, receipt)
					if err := f.Feed.Ack(ctx, f.kept[:upTo+1]); err != nil {
						return err
					}
				}
				return nil
			}
		}, []string{"Ack acknowledges exactly the messages with these receipts"}},
		{"acknowledging nothing acknowledges all", func(m *mutant) {
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				msgs, err := f.Feed.Fetch(ctx, max)
				f.kept = append(f.kept, receiptsOf(msgs)...)
				return msgs, err
			}
			m.onAck = func(ctx context.Context, f *mutantFeed, receipts []uint64) error {
				if len(receipts) == 0 {
					receipts = f.kept
				}
				return f.Feed.Ack(ctx, receipts)
			}
		}, []string{"Ack of no messages acknowledges none"}},
		{"a message comes twice at most", func(m *mutant) {
			times := make(map[uuid.UUID]int)
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				for {
					msgs, err := f.Feed.Fetch(ctx, 1)
					if err != nil || times[msgs[0].ID] < 2 {
						for _, msg := range msgs {
							times[msg.ID]++
						}
						return msgs, err
					}
				}
			}
		}, []string{"a message may come again many times"}},
		{"the first message is left out", eachOpen(func(c *pulse.FeedConfig) { c.Start++ }), []string{
			"a new subscription from the beginning gets what was published before", "a new subscription from a position gets nothing before it",
		}},
		{"every start is the beginning", eachOpen(func(c *pulse.FeedConfig) { c.Start = pulse.Beginning }), []string{
			"a new subscription from a position gets nothing before it",
		}},
		{"each start is a new subscription", eachOpen(func(c *pulse.FeedConfig) {
			if c.Start != pulse.Beginning {
				c.Subscription += "-again"
			}
		}), []string{"an existing subscription goes on after what was acknowledged, whatever Start says"}},
	}...)
}

// ackIfAny acknowledges what came.
func ackIfAny(ctx context.Context, f *mutantFeed, msgs []pulse.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	return f.Feed.Ack(ctx, receiptsOf(msgs))
}

func deliveryBugs() []bug {
	return []bug{
		{"Fetch does not wait", func(m *mutant) {
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
				defer cancel()
				msgs, err := f.Feed.Fetch(ctx, max)
				if errors.Is(err, context.DeadlineExceeded) {
					return nil, nil
				}
				return msgs, err
			}
		}, []string{"Fetch waits for a message", "Fetch that waits ends with its context"}},
		{"Fetch does not tell why it ended", func(m *mutant) {
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				msgs, err := f.Feed.Fetch(ctx, max)
				if err != nil {
					err = pulse.ErrBroker
				}
				return msgs, err
			}
		}, []string{"Fetch that waits ends with its context"}},
		{"who waits for a message in vain loses the next one", func(m *mutant) {
			vain := false
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				msgs, err := f.Feed.Fetch(ctx, max)
				if err == nil && vain {
					msgs, err = f.Feed.Fetch(ctx, max)
				}
				vain = err != nil
				return msgs, err
			}
		}, []string{"a Fetch that ended without messages loses none"}},
		{"Fetch returns more than asked for", func(m *mutant) {
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				return f.Feed.Fetch(ctx, 100)
			}
		}, []string{"Fetch returns up to max messages"}},
		{"there is no window", eachOpen(func(c *pulse.FeedConfig) { c.Window = 0 }), []string{"no more than Window messages are out without acknowledgement"}},
		{"names are not looked at", eachOpen(func(c *pulse.FeedConfig) { c.Names = nil }), []string{"names and patterns select"}},
		{"a star matches several words", eachOpen(func(c *pulse.FeedConfig) {
			for i, name := range c.Names {
				if prefix, ok := strings.CutSuffix(name, ".*"); ok {
					c.Names[i] = prefix + ".>"
				}
			}
		}), []string{"names and patterns select"}},
		{"all subscriptions are one", eachOpen(func(c *pulse.FeedConfig) { c.Subscription = "all" }), []string{"each subscription gets all messages"}},
		{"each feed is a subscription", eachOpen(func(c *pulse.FeedConfig) { c.Subscription = uuid.NewString() }), []string{
			"a subscription delivers to one open feed at a time", "an acknowledged message does not come again",
			"a feed goes on in order where the last one ended",
		}},
		{"messages are cached", func(m *mutant) {
			cache := make(map[uuid.UUID]pulse.Message)
			m.onFetch = func(ctx context.Context, f *mutantFeed, max int) ([]pulse.Message, error) {
				msgs, err := f.Feed.Fetch(ctx, max)
				for i := range msgs {
					if known, ok := cache[msgs[i].ID]; ok {
						msgs[i].Data = known.Data
					}
					cache[msgs[i].ID] = msgs[i]
				}
				return msgs, err
			}
		}, []string{"the caller owns a message"}},
		{"Close does nothing", func(m *mutant) {
			m.onClose = func(*mutantFeed) error { return nil }
		}, []string{"Fetch after Close fails", "a subscription delivers to one open feed at a time"}},
		{"Open ignores the context", func(m *mutant) {
			m.onOpen = func(ctx context.Context, cfg pulse.FeedConfig) (pulse.Feed, error) {
				return m.open(context.WithoutCancel(ctx), cfg)
			}
		}, []string{"Open with a cancelled context fails"}},
	}
}

package pulse

import "context"

// Publisher is the port out to one destination on a broker.
type Publisher interface {
	// PublishBatch publishes envs in order, up to the first that is not Acked, and returns one Result for each, in the same
	// order: behind a Rejected one the others are Withheld, behind an Unknown one Unknown. So whatever is at the destination,
	// everything before it is there too, or was refused and noted. It does not retry, keeps nothing of envs, and is called by one
	// goroutine at a time.
	PublishBatch(ctx context.Context, envs []Envelope) []Result

	// Last returns the highest position among the messages published to the destination, also when others followed it, as a
	// cursor: so a broker that lost what it had acknowledged is noticed, unless it lost nothing but messages that were published
	// late, behind others of higher positions. The zero Cursor when there is none; ok is false when this broker cannot tell.
	Last(ctx context.Context) (last Cursor, ok bool, err error)

	// Capabilities is constant.
	Capabilities() Capabilities
}

// Capabilities declares how an adapter wants to be used.
type Capabilities struct {
	MaxBatch int // messages in one PublishBatch at most; at least 1
	MaxBytes int // largest message the destination takes, as Envelope.Size counts; 0 for no limit
}

// Outcome is what became of one message.
type Outcome int

// The outcomes of publishing.
const (
	Unknown  Outcome = iota // not known, or not tried: publish again
	Acked                   // the broker has it
	Rejected                // the broker will never take it: park it
	Withheld                // not tried, because an earlier message of the batch was Rejected: publish it once that is noted
)

// Result is the answer to one published envelope.
type Result struct {
	Outcome  Outcome
	Sequence uint64 // the broker's sequence number, where it has one
	Err      error  // why it was not Acked; an ErrBroker
}

// Source is the port in from a broker.
type Source interface {
	// Open starts reading for a subscription. Opened again under the same name it goes on after what was acknowledged. The
	// source delivers to one open Feed of a subscription at a time.
	Open(ctx context.Context, cfg FeedConfig) (Feed, error)
}

// FeedConfig says what a subscription wants from a Source.
type FeedConfig struct {
	Subscription string
	Names        []string // names and patterns; nil for all
	Start        Position // first position wanted, when the name is new to the source; messages before it are not delivered. 0 for all
	Window       int      // messages delivered to this Feed and not acknowledged at most

	// Known returns the event at a place of the log, when it is at hand: a Feed need not read it out of the message that tells of this place
	// and commitment. Nil when nothing is. The caller owns what it gets. It may be called by any goroutine.
	Known func(Cursor) (Envelope, bool)
}

// Feed is an open Source. It is used by one goroutine, except that Ack may run beside Fetch.
type Feed interface {
	// Fetch waits for messages and returns up to max, in the source's order; none only with an error. A message
	// stays with the Feed, however long it is handled, until it is acknowledged or the Feed is closed or its process
	// gone; then an unacknowledged message comes again. The caller owns what it gets.
	Fetch(ctx context.Context, max int) ([]Message, error)
	// Ack acknowledges exactly the messages with these receipts. It keeps nothing of the slice.
	Ack(ctx context.Context, receipts []uint64) error
	// Close gives unacknowledged messages back.
	Close() error
}

// Message is one envelope as it came from a broker.
type Message struct {
	Envelope
	Receipt uint64 // the Feed's own number for acknowledging, not 0
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// Relay is how fast the relay publishes what waits in the log, next to its two parts alone: what the client of the broker does
// with messages that are ready, and what reading and encoding the events takes. The relay does both at once, so it can be as
// fast as the slower of them.
type Relay struct {
	Events          int64   `json:"events"`
	Server          string  `json:"server"`
	PerSecond       float64 `json:"per_second"`        // median
	ClientPerSecond float64 `json:"client_per_second"` // median
	ReadPerSecond   float64 `json:"read_per_second"`   // median
	Ratio           float64 `json:"ratio"`             // median of the ratios of the rounds
}

func (b *bench) relay(ctx context.Context) (r *Relay, err error) {
	path := b.file()
	store, err := b.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()); b.remove(path) }()
	head, err := b.fill(ctx, store)
	if err != nil {
		return nil, err
	}
	var relays, clients, reads, ratios []float64
	for round := range b.Rounds {
		relay, err := b.relayOnce(ctx, store, head)
		if err != nil {
			return nil, err
		}
		client, err := b.clientAlone(ctx, store, int(head))
		if err != nil {
			return nil, err
		}
		read, err := b.readAndEncode(ctx, store, head)
		if err != nil {
			return nil, err
		}
		b.Say("relay, round %d: %.0f/s, the client alone %.0f/s, reading and encoding %.0f/s", round+1, relay, client, read)
		relays, clients, reads = append(relays, relay), append(clients, client), append(reads, read)
		ratios = append(ratios, relay/min(client, read))
	}
	return &Relay{int64(head), b.server(), median(relays), median(clients), median(reads), median(ratios)}, nil
}

// fill emits the backlog, and fills the index of the log, which a bus that runs would do beside the first round only.
func (b *bench) fill(ctx context.Context, store Store) (head pulse.Position, err error) {
	bus, err := pulse.New(store, &pulse.Options{Source: "/bench"})
	if err != nil {
		return 0, err
	}
	_, _, err = load(ctx, bus, emitCallers, func(emitted int64) bool { return emitted >= int64(b.Backlog) })
	if ix, ok := store.(pulse.Indexer); ok {
		for more := err == nil; more && err == nil; {
			more, err = ix.Index(ctx, 10_000)
		}
	}
	if err = errors.Join(err, bus.Close()); err != nil {
		return 0, err
	}
	info, err := store.Info(ctx)
	return info.Head, err
}

// relayOnce publishes the whole log to a new broker, as a new destination.
func (b *bench) relayOnce(ctx context.Context, store Store, head pulse.Position) (perSec float64, err error) {
	err = b.withBroker(ctx, func(broker *Broker) error {
		bus, err := pulse.New(store, &pulse.Options{Source: "/bench"})
		if err != nil {
			return err
		}
		if err := bus.Publish(fmt.Sprintf("%s-%d", destination, b.files), broker.Publisher); err != nil {
			return errors.Join(err, bus.Close())
		}
		begin := time.Now()
		err = bus.Drain(ctx)
		perSec = perSecond(int64(head), time.Since(begin))
		return errors.Join(err, bus.Close(), endsAt(ctx, broker, head))
	})
	return perSec, err
}

// endsAt makes sure that the broker has everything up to a position.
func endsAt(ctx context.Context, broker *Broker, head pulse.Position) error {
	if broker.Count != nil {
		n, err := broker.Count(ctx)
		if err == nil && n < int64(head) {
			err = fmt.Errorf("%w: it has %d events, the log %d", pulse.ErrBroker, n, head)
		}
		return err
	}
	last, _, err := broker.Publisher.Last(ctx)
	if err == nil && last.Position != head {
		err = fmt.Errorf("%w: it has events up to position %d, the log up to %d", pulse.ErrBroker, last.Position, head)
	}
	return err
}

// readPage is how many events are read at once.
const readPage = 1000

// readAndEncode reads the log and makes of each event the headers it is published with.
func (b *bench) readAndEncode(ctx context.Context, store Store, head pulse.Position) (perSec float64, err error) {
	var headers []cloudevents.Header
	encode := func(env *pulse.Envelope) (err error) {
		headers, err = cloudevents.AppendHeaders(headers[:0], env)
		return err
	}
	if b.Outside != nil {
		encode = b.Outside.Encode
	}
	begin := time.Now()
	for after := pulse.Position(0); after < head; {
		page, err := store.Read(ctx, pulse.Query{After: after, Limit: readPage})
		if err != nil {
			return 0, err
		}
		for i := range page.Envelopes {
			if err := encode(&page.Envelopes[i]); err != nil {
				return 0, err
			}
		}
		after = page.Next
	}
	return perSecond(int64(head), time.Since(begin)), nil
}

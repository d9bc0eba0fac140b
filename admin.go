package pulse

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Subscriptions returns the state of all subscriptions of the store, by name.
func (b *Bus) Subscriptions(ctx context.Context) ([]SubscriptionState, error) {
	ports, err := portsOf(b.store)
	if err != nil {
		return nil, err
	}
	return ports.subscriptions.States(ctx)
}

// Pause stops a subscription, in whatever process it runs, until Resume.
func (b *Bus) Pause(ctx context.Context, subscription, reason string) error {
	return b.control(ctx, subscription, Control{Pause: &Pause{Until: Forever, Reason: reason}})
}

// Resume ends a pause.
func (b *Bus) Resume(ctx context.Context, subscription string) error {
	return b.control(ctx, subscription, Control{Resume: true})
}

// Replay starts a new generation of a subscription at from: its handlers run again, transactional ones too. Deliveries
// waiting for a retry and dead letters are removed: they come again. A relay is not replayed: see Republish.
func (b *Bus) Replay(ctx context.Context, subscription string, from Position) error {
	if destination, relay := strings.CutPrefix(subscription, relayPrefix); relay {
		return fmt.Errorf("replay %q: %w: a relay goes on behind the destination's last message: send events again by Republish to %q", subscription, ErrInvalid, destination)
	}
	if from < Beginning {
		return fmt.Errorf("replay %q: %w: from position %d: positions count from 1", subscription, ErrInvalid, from)
	}
	return b.control(ctx, subscription, Control{Replay: &Replay{From: from}})
}

// Drop removes a subscription and all it left: cursor, inbox, retries, dead letters.
func (b *Bus) Drop(ctx context.Context, subscription string) error {
	return b.control(ctx, subscription, Control{Drop: true})
}

func (b *Bus) control(ctx context.Context, name string, c Control) error {
	ports, err := portsOf(b.store)
	if err != nil {
		return err
	}
	if err := ports.subscriptions.Control(ctx, name, c); err != nil {
		return fmt.Errorf("subscription %q: %w", name, err)
	}
	b.pokeRunner(name)
	return nil
}

// pokeRunner lets this bus's own instance of a subscription see a change at once.
func (b *Bus) pokeRunner(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.runners {
		if name == "" || r.sub.name == name {
			r.poke()
		}
	}
}

// Deliveries returns the deliveries that q selects of those that are not simply handled.
func (b *Bus) Deliveries(ctx context.Context, q DeliveryQuery) ([]DeliveryState, error) {
	ports, err := portsOf(b.store)
	if err != nil {
		return nil, err
	}
	return ports.deliveries.List(ctx, q)
}

// DroppedName is the name of the audit events that Settle leaves of dead letters that were dropped, for each subscription one or more.
const DroppedName = "pulse.dead-letters.dropped"

// auditedSize is what an audit event says of one dead letter at most, bytes.
const auditedSize = 1 << 10

// Settle decides about the dead letters q selects and returns how many there were. Dropping leaves audit events, each emitted before what it
// names is dropped; when one cannot be, those dropped before are counted.
func (b *Bus) Settle(ctx context.Context, q DeliveryQuery, s Settlement) (n int, err error) {
	ports, err := portsOf(b.store)
	if err != nil {
		return 0, err
	}
	switch s {
	case SettleRetry, SettleSkip:
		n, err = ports.deliveries.Settle(ctx, q, s)
	case SettleDrop:
		n, err = b.drop(ctx, ports, q)
	default:
		err = fmt.Errorf("%w: %q is none of retry, skip, drop", ErrInvalid, s)
	}
	if n > 0 {
		b.pokeRunner(q.Subscription)
	}
	if err != nil {
		return n, fmt.Errorf("settle: %w", err)
	}
	return n, nil
}

// drop drops the dead letters q selects, and no others: some may come to be while it does.
func (b *Bus) drop(ctx context.Context, ports storePorts, q DeliveryQuery) (n int, err error) {
	q.Statuses = []DeliveryStatus{StatusDead}
	rows, err := ports.deliveries.List(ctx, q)
	if err != nil {
		return 0, err
	}
	slices.SortStableFunc(rows, func(x, y DeliveryState) int { return strings.Compare(x.Subscription, y.Subscription) })
	for len(rows) > 0 {
		part := rows[:1]
		for len(part) < len(rows) && len(part) < b.limit/auditedSize && rows[len(part)].Subscription == part[0].Subscription {
			part = rows[:len(part)+1]
		}
		rows = rows[len(part):]
		positions, err := b.auditDrop(ctx, part)
		if err != nil {
			return n, fmt.Errorf("%d were dropped, the others not: %w", n, err)
		}
		dropped, err := ports.deliveries.Settle(ctx, DeliveryQuery{Subscription: part[0].Subscription, Positions: positions}, SettleDrop)
		n += dropped
		if err != nil {
			return n, fmt.Errorf("%d were dropped, the others not: %w", n, err)
		}
	}
	return n, nil
}

// auditDrop emits an event with dead letters of one subscription, which are about to be dropped, and returns their positions.
func (b *Bus) auditDrop(ctx context.Context, rows []DeliveryState) (positions []Position, err error) {
	type dropped struct {
		Position Position  `json:"position"`
		Name     string    `json:"name"`
		Attempts int       `json:"attempts"`
		FailedAt time.Time `json:"failed_at"`
	}
	letters := make([]dropped, len(rows))
	for i := range rows {
		r := &rows[i]
		positions = append(positions, r.Position)
		letters[i] = dropped{r.Position, r.Name, r.Attempt, r.FailedAt.UTC()}
	}
	subscription := rows[0].Subscription
	data, err := json.Marshal(map[string]any{"subscription": subscription, "dead_letters": letters})
	if err != nil {
		return nil, err
	}
	dropping := Raw{Name: DroppedName, Key: subscription, Data: data}
	_, err = b.emit(ctx, b.batch, []Event{dropping}, nil) // in no transaction of a handler, which may be rolled back
	return positions, err
}

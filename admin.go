package pulse

import (
	"context"
	"encoding/json"
	"fmt"
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

// DroppedName is the name of the audit event that Settle leaves for each subscription whose dead letters were dropped.
const DroppedName = "pulse.dead-letters.dropped"

// Settle decides about the dead letters q selects and returns how many there were. Dropping leaves an audit
// event, emitted first.
func (b *Bus) Settle(ctx context.Context, q DeliveryQuery, s Settlement) (int, error) {
	ports, err := portsOf(b.store)
	if err != nil {
		return 0, err
	}
	switch s {
	case SettleRetry, SettleSkip:
	case SettleDrop:
		if err := b.auditDrop(ctx, ports, q); err != nil {
			return 0, fmt.Errorf("settle: nothing was dropped: %w", err)
		}
	default:
		return 0, fmt.Errorf("settle: %w: %q is none of retry, skip, drop", ErrInvalid, s)
	}
	n, err := ports.deliveries.Settle(ctx, q, s)
	if err != nil {
		return n, fmt.Errorf("settle: %w", err)
	}
	b.pokeRunner(q.Subscription)
	return n, nil
}

// auditDrop emits one event for each subscription, with the dead letters about to be dropped.
func (b *Bus) auditDrop(ctx context.Context, ports storePorts, q DeliveryQuery) error {
	q.Statuses = []DeliveryStatus{StatusDead}
	rows, err := ports.deliveries.List(ctx, q)
	if err != nil {
		return err
	}
	type dropped struct {
		Position Position  `json:"position"`
		Name     string    `json:"name"`
		Attempts int       `json:"attempts"`
		FailedAt time.Time `json:"failed_at"`
	}
	bySubscription := map[string][]dropped{}
	for _, r := range rows {
		bySubscription[r.Subscription] = append(bySubscription[r.Subscription], dropped{r.Position, r.Name, r.Attempt, r.FailedAt.UTC()})
	}
	for name, list := range bySubscription {
		data, err := json.Marshal(map[string]any{"subscription": name, "dead_letters": list})
		if err != nil {
			return err
		}
		if _, err := b.Emit(ctx, Raw{Name: DroppedName, Key: name, Data: data}); err != nil {
			return err
		}
	}
	return nil
}

package pulse

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/google/uuid"
)

// Delivery is one envelope on its way through one subscription.
type Delivery struct {
	Envelope
	Subscription string
	Generation   int // of the subscription; grows with each replay
	Attempt      int // from 1
}

// IdempotencyKey names the effect of this delivery to the outside world. It is the same through every
// redelivery, retry, redrive and replay.
func (d *Delivery) IdempotencyKey() string { return d.Subscription + "/" + d.ID.String() }

// Handler handles one delivery. Its answer is its error; see RetryAfter, Park and Unavailable. Its context ends when the
// subscription's timeout is over or the bus gives up draining. Emitting with it inherits the correlation,
// sets the causation, and joins the handler's transaction if it has one.
type Handler func(ctx context.Context, d *Delivery) error

// Middleware wraps a handler, for what every handler of a subscription should do.
type Middleware func(Handler) Handler

// BatchHandler handles several deliveries at once. The slice is its own, what it points to, Data for example, not to be changed. One error
// fails them all: the batch is then split until only the culprits fail, also by a RetryAfter, which is about one event. Unavailable is about
// none of them, and splits nothing.
type BatchHandler func(ctx context.Context, ds []Delivery) error

// route is one entry of a subscription: what it handles and with what. A handler finds its transaction in the scope
// its context carries.
type route struct {
	pattern string
	handle  Handler      // nil for a batch
	batch   BatchHandler // nil for a single
	max     int          // deliveries in one batch at most
	inTx    bool         // runs in a transaction with the inbox row in it
}

// On handles events of type E.
func On[E Event](fn func(ctx context.Context, e E) error) SubscribeOption {
	return typed(fn == nil, false, fn)
}

// OnTx handles events of type E in a transaction of the bus's store that also remembers the delivery: what the
// handler writes there happens exactly once. Adapters offer it with their own transaction type; prefer that.
func OnTx[E Event](fn func(ctx context.Context, tx Tx, e E) error) SubscribeOption {
	return typed(fn == nil, true, func(ctx context.Context, e E) error { return fn(ctx, scopeOf(ctx).tx, e) })
}

// OnDelivery handles the events whose name matches pattern, with their envelope.
func OnDelivery(pattern string, fn Handler) SubscribeOption {
	return func(s *subscription) error {
		return s.add(route{pattern: pattern, handle: fn}, fn == nil)
	}
}

// OnBatch handles up to max events at once whose name matches pattern. A batch is acknowledged as one. It is the
// only handler of its subscription.
func OnBatch(pattern string, max int, fn BatchHandler) SubscribeOption {
	return func(s *subscription) error {
		return s.add(route{pattern: pattern, max: max, batch: fn}, fn == nil)
	}
}

// OnBatchTx is OnBatch in one transaction of the bus's store that also remembers the deliveries; see OnTx.
func OnBatchTx(pattern string, max int, fn func(ctx context.Context, tx Tx, ds []Delivery) error) SubscribeOption {
	return func(s *subscription) error {
		return s.add(route{pattern: pattern, max: max, inTx: true, batch: func(ctx context.Context, ds []Delivery) error {
			return fn(ctx, scopeOf(ctx).tx, ds)
		}}, fn == nil)
	}
}

// typed makes the route of a typed handler.
func typed[E Event](isNil, inTx bool, fn func(ctx context.Context, e E) error) SubscribeOption {
	return func(s *subscription) error {
		if err := named[E]("OnDelivery"); err != nil {
			return err
		}
		var zero E
		name := zero.EventName()
		if err := ValidateName(name); err != nil {
			return fmt.Errorf("the EventName of a zero %T: %w", zero, err)
		}
		return s.add(route{pattern: name, inTx: inTx, handle: func(ctx context.Context, d *Delivery) error {
			var e E
			if err := d.Decode(&e); err != nil {
				return fmt.Errorf("%w: %w", Park("the payload does not decode"), err)
			}
			return fn(ctx, e)
		}}, isNil)
	}
}

// named refuses types E whose zero value has no name. instead is what to use for them.
func named[E Event](instead string) error {
	t := reflect.TypeFor[E]()
	switch {
	case t.Kind() == reflect.Pointer:
		return fmt.Errorf("%w: take %s by value, not %s, and give its EventName a value receiver", ErrInvalid, t.Elem(), t)
	case t.Kind() == reflect.Interface || t == reflect.TypeFor[Raw]():
		return fmt.Errorf("%w: %s has no name of its own: use %s with a name or pattern", ErrInvalid, t, instead)
	}
	return nil
}

// scope is what a handler's context carries: the event being handled and the transaction, if any.
// It is the Appender of emits that join the transaction.
type scope struct {
	bus         *Bus
	cause       uuid.UUID // the event; for a batch, its first
	correlation string
	tx          Tx // nil without a transaction
	over        atomic.Bool
}

type scopeKey struct{}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// Append appends to the handler's transaction.
func (s *scope) Append(ctx context.Context, recs []Record) error {
	if s.over.Load() {
		return fmt.Errorf("%w: the handler returned and its transaction is over: emit before returning, or with a context of your own", ErrClosed)
	}
	return s.tx.Append(ctx, recs)
}

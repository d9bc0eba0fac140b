package pulse

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Emitter emits events: a Bus, or what Bus.In returns for a transaction.
type Emitter interface {
	// Emit records one event and returns its id. A nil error means it is as durable as the store,
	// or the transaction, makes it. On an error it is not stored, unless the error is an ErrUnknown; then
	// emitting again with the returned id, by the option ID, is safe.
	Emit(ctx context.Context, ev Event, opts ...EmitOption) (uuid.UUID, error)
	// EmitAll records all events or none, next to each other in the log.
	EmitAll(ctx context.Context, evs []Event, opts ...EmitOption) ([]uuid.UUID, error)
}

// EmitOption sets what an envelope says beside the event.
type EmitOption func(*emitOptions)

type emitOptions struct {
	id          uuid.UUID
	idGiven     bool
	at          time.Time
	actor       uuid.UUID
	correlation string
	causation   uuid.UUID
	trace       string
	source      string
	extensions  json.RawMessage
}

// ID gives the event its id, which makes emitting it again safe: the same id with the same content changes
// nothing, with other content it is an ErrConflict.
func ID(id uuid.UUID) EmitOption { return func(o *emitOptions) { o.id, o.idGiven = id, true } }

// At says when the event happened, kept in whole microseconds UTC. Default: the time of the call.
func At(t time.Time) EmitOption { return func(o *emitOptions) { o.at = t } }

// By says who triggered the event. Default: the actor in the context, see WithActor.
func By(actor uuid.UUID) EmitOption { return func(o *emitOptions) { o.actor = actor } }

// CorrelatedTo sets the cross-service trace id. Default: that of the event being handled, else the one in
// the context, see WithCorrelation, else the event's own id.
func CorrelatedTo(id string) EmitOption { return func(o *emitOptions) { o.correlation = id } }

// CausedBy names the event that led to this one. Default: the event being handled.
func CausedBy(id uuid.UUID) EmitOption { return func(o *emitOptions) { o.causation = id } }

// Traced sets the W3C traceparent. Default: the one in the context, see WithTrace.
func Traced(traceparent string) EmitOption { return func(o *emitOptions) { o.trace = traceparent } }

// FromSource names the application the event comes from, when it is not this one: for imports.
func FromSource(source string) EmitOption { return func(o *emitOptions) { o.source = source } }

// Extended adds CloudEvents attributes that Pulse does not know: a flat JSON object of strings, booleans and integers of 32 bits, of
// 16 KiB at most. They are stored sorted by name.
func Extended(attributes json.RawMessage) EmitOption {
	return func(o *emitOptions) { o.extensions = attributes }
}

// Emit records ev durably; see Emitter. In a handler it joins the handler's transaction, if that has one. Concurrent
// calls share transactions of the store.
//
// When ctx ends before the event was handed to the store, the error is that of ctx and nothing is stored. When it
// ends later, the error is an ErrUnknown that wraps it.
func (b *Bus) Emit(ctx context.Context, ev Event, opts ...EmitOption) (uuid.UUID, error) {
	ids, err := b.emit(ctx, b.joined(ctx), []Event{ev}, opts)
	return ids[0], err
}

// EmitAll records all events or none; see Emitter and Emit.
func (b *Bus) EmitAll(ctx context.Context, evs []Event, opts ...EmitOption) ([]uuid.UUID, error) {
	return b.emit(ctx, b.joined(ctx), evs, opts)
}

// txEmitter emits through a transaction.
type txEmitter struct {
	bus *Bus
	to  Appender
}

func (e txEmitter) Emit(ctx context.Context, ev Event, opts ...EmitOption) (uuid.UUID, error) {
	ids, err := e.bus.emit(ctx, e.to, []Event{ev}, opts)
	return ids[0], err
}

func (e txEmitter) EmitAll(ctx context.Context, evs []Event, opts ...EmitOption) ([]uuid.UUID, error) {
	return e.bus.emit(ctx, e.to, evs, opts)
}

// joined returns the transaction of the handler that ctx belongs to, or the batcher.
func (b *Bus) joined(ctx context.Context) Appender {
	if s := scopeOf(ctx); s != nil && s.bus == b && s.tx != nil {
		return s
	}
	return b.batch
}

// emit prepares records and appends them as one unit. The returned ids are valid also on an error.
func (b *Bus) emit(ctx context.Context, to Appender, evs []Event, opts []EmitOption) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, len(evs))
	var o emitOptions
	for _, opt := range opts {
		if opt == nil {
			return ids, fmt.Errorf("emit: %w: an option is nil", ErrInvalid)
		}
		opt(&o)
	}
	switch {
	case to == nil:
		return ids, fmt.Errorf("emit: %w: the transaction is nil: give Bus.In what an adapter makes of a transaction", ErrInvalid)
	case o.idGiven && o.id == uuid.Nil:
		return ids, fmt.Errorf("emit: %w: the id given is the nil UUID: give a real one, or none to get one", ErrInvalid)
	case o.idGiven && len(evs) > 1:
		return ids, fmt.Errorf("emit: %w: one id was given for %d events: emit them one by one", ErrInvalid, len(evs))
	}
	if o.idGiven && to == Appender(b.batch) {
		to = b.given
	}
	b.inherit(ctx, &o)
	if err := o.normalize(); err != nil {
		return ids, fmt.Errorf("emit: %w", err)
	}
	recs := make([]Record, len(evs))
	for i, ev := range evs {
		if err := b.prepare(&recs[i], ev, &o); err != nil {
			return ids, fmt.Errorf("emit %s: %w", nameForError(ev), err)
		}
		ids[i] = recs[i].ID
	}
	if err := ctx.Err(); err != nil {
		return ids, fmt.Errorf("emit: %w: nothing was stored", err)
	}
	if len(recs) == 0 {
		return ids, nil
	}
	inTx := to != Appender(b.batch) && to != Appender(b.given) // else the batcher knows
	if inTx && b.batch.isClosed() {
		return ids, fmt.Errorf("emit %s: %w: the bus was closed", nameForError(evs[0]), ErrClosed)
	}
	if err := to.Append(ctx, recs); err != nil {
		return ids, fmt.Errorf("emit %s: %w", nameForError(evs[0]), err)
	}
	if inTx {
		b.appended(to, recs)
	}
	return ids, nil
}

// normalize checks the extensions, and writes them the one way they are stored.
func (o *emitOptions) normalize() (err error) {
	o.extensions, err = normalExtensions(o.extensions)
	if err == nil && o.causation != uuid.Nil && hasAttribute(o.extensions, attrCausation) {
		err = fmt.Errorf("%w: the extensions have a %s, and the event has a cause: keep one", ErrInvalid, attrCausation)
	}
	return err
}

// inherit fills what the caller left open from the event being handled and from the context.
func (b *Bus) inherit(ctx context.Context, o *emitOptions) {
	if s := scopeOf(ctx); s != nil {
		if o.correlation == "" {
			o.correlation = s.correlation
		}
		if o.causation == uuid.Nil {
			o.causation = s.cause
		}
	}
	if o.correlation == "" {
		o.correlation, _ = CorrelationFrom(ctx)
	}
	if o.actor == uuid.Nil {
		o.actor, _ = ActorFrom(ctx)
	}
	if o.trace == "" {
		o.trace, _ = TraceFrom(ctx)
	}
	if o.source == "" {
		o.source = b.source
	}
}

// prepare fills r: encoded, validated, committed to, ready to append.
func (b *Bus) prepare(r *Record, ev Event, o *emitOptions) error {
	e, err := b.encode(ev)
	if err != nil {
		return err
	}
	r.Envelope = Envelope{
		ID: o.id, Name: e.name, Version: e.version, Source: o.source, OccurredAt: o.at, Actor: o.actor,
		Correlation: o.correlation, Causation: o.causation, Key: e.key, Trace: o.trace, Extensions: o.extensions, Data: e.data,
	}
	r.Origin = b.origin
	r.IDNew = !o.idGiven
	r.TimeGiven = !o.at.IsZero()
	if !r.TimeGiven {
		r.OccurredAt = time.Now()
	}
	r.OccurredAt = r.OccurredAt.UTC().Truncate(time.Microsecond)
	if r.ID == uuid.Nil {
		if r.ID, err = uuid.NewV7(); err != nil {
			return fmt.Errorf("%w: no randomness for an id: %w", ErrStore, err)
		}
	}
	if r.Correlation == "" {
		r.Correlation = r.ID.String()
	}
	if err := validate(&r.Envelope); err != nil {
		return err
	}
	if size := r.Size(); size > b.limit {
		return fmt.Errorf("%w: %d bytes with headers, the store takes %d: keep large content elsewhere and emit a reference", ErrTooLarge, size, b.limit)
	}
	return r.Commit()
}

// validate checks what a caller or an imported file put into an envelope, except its data.
func validate(e *Envelope) error {
	if err := ValidateName(e.Name); err != nil {
		return err
	}
	if e.Version < 1 || e.Version > maxVersion {
		return fmt.Errorf("%w: version %d: versions count from 1 to %d", ErrInvalid, e.Version, maxVersion)
	}
	if y := e.OccurredAt.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("%w: occurred in the year %d: give a time between the years 1 and 9999", ErrInvalid, y)
	}
	if err := validateKey(e.Key); err != nil {
		return err
	}
	if err := validateCorrelation(e.Correlation); err != nil {
		return err
	}
	if e.Source == "" {
		return fmt.Errorf("%w: the source is empty: name the application the event comes from", ErrInvalid)
	}
	if err := validateText("source", e.Source, maxText); err != nil {
		return err
	}
	if e.Trace != "" {
		if err := validateTrace(e.Trace); err != nil {
			return err
		}
	}
	return nil
}

// nameForError names an event in an error.
func nameForError(ev Event) string {
	if raw, ok := ev.(Raw); ok {
		return fmt.Sprintf("%.80q", raw.Name)
	}
	return fmt.Sprintf("%T", ev)
}

package cli

import (
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// The shapes of --json. Their field names are a promise to scripts.

type envelopeJSON struct {
	Position    pulse.Position  `json:"position"`
	ID          uuid.UUID       `json:"id"`
	Name        string          `json:"name"`
	Version     int             `json:"version"`
	Source      string          `json:"source"`
	OccurredAt  time.Time       `json:"occurred_at"`
	RecordedAt  time.Time       `json:"recorded_at"`
	Actor       *uuid.UUID      `json:"actor,omitempty"`
	Correlation string          `json:"correlation,omitempty"`
	Causation   *uuid.UUID      `json:"causation,omitempty"`
	Key         string          `json:"key,omitempty"`
	Trace       string          `json:"trace,omitempty"`
	Extensions  json.RawMessage `json:"extensions,omitempty"`
	Data        json.RawMessage `json:"data"`
	Commitment  string          `json:"commitment"`
}

func toEnvelopeJSON(e *pulse.Envelope) envelopeJSON {
	return envelopeJSON{
		Position: e.Position, ID: e.ID, Name: e.Name, Version: e.Version, Source: e.Source,
		OccurredAt: e.OccurredAt.UTC(), RecordedAt: e.RecordedAt.UTC(),
		Actor: orAbsent(e.Actor), Correlation: e.Correlation, Causation: orAbsent(e.Causation), Key: e.Key, Trace: e.Trace,
		Extensions: e.Extensions, Data: e.Data, Commitment: hex.EncodeToString(e.Commitment[:]),
	}
}

func orAbsent(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

type subscriptionJSON struct {
	Name        string         `json:"name"`
	Source      string         `json:"source,omitempty"` // the destination whose broker feeds it; absent: the log
	Generation  int            `json:"generation"`
	Cursor      pulse.Position `json:"cursor"`
	Lag         int64          `json:"lag"`
	Retries     int            `json:"retries"`
	Waiting     int            `json:"waiting"`
	BlockedKeys int            `json:"blocked_keys"`
	DeadLetters int            `json:"dead_letters"`
	pausedJSON
	Holder string `json:"holder,omitempty"`
}

func toSubscriptionJSON(s *pulse.SubscriptionState) subscriptionJSON {
	return subscriptionJSON{
		Name: s.Name, Source: s.Source, Generation: s.Generation, Cursor: s.Cursor.Position, Lag: s.Lag(),
		Retries: s.Retries, Waiting: s.Waiting, BlockedKeys: s.Blocked, DeadLetters: s.Dead,
		pausedJSON: toPausedJSON(s), Holder: s.Holder,
	}
}

// pausedJSON is a part of others.
type pausedJSON struct {
	Paused      bool       `json:"paused"`
	PausedUntil *time.Time `json:"paused_until,omitempty"` // absent: until resumed
	PauseReason string     `json:"pause_reason,omitempty"`
}

func toPausedJSON(s *pulse.SubscriptionState) pausedJSON {
	j := pausedJSON{Paused: app.Pausing(s)}
	if !j.Paused {
		return j
	}
	j.PauseReason = s.PauseReason
	if !s.PausedUntil.Equal(pulse.Forever) {
		until := s.PausedUntil.UTC()
		j.PausedUntil = &until
	}
	return j
}

type deadJSON struct {
	Subscription string          `json:"subscription"`
	Position     pulse.Position  `json:"position"`
	Name         string          `json:"name"`
	Key          string          `json:"key,omitempty"`
	Attempts     int             `json:"attempts"`
	FailedAt     time.Time       `json:"failed_at"`
	Blocking     bool            `json:"blocking"` // it holds up its key
	Error        string          `json:"error"`
	Stack        string          `json:"stack,omitempty"`
	Event        json.RawMessage `json:"event,omitempty"` // only of show
}

func toDeadJSON(d *pulse.DeliveryState) deadJSON {
	return deadJSON{
		Subscription: d.Subscription, Position: d.Position, Name: d.Name, Key: d.Key,
		Attempts: d.Attempt, FailedAt: d.FailedAt.UTC(), Blocking: d.Lane != "", Error: d.Error, Stack: d.Stack,
	}
}

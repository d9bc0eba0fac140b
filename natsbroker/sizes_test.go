package natsbroker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/natsbroker"
)

// brokerOnly is a publisher that leaves it to the broker to say what is too large.
type brokerOnly struct{ pulse.Publisher }

func (p brokerOnly) Capabilities() pulse.Capabilities {
	c := p.Publisher.Capabilities()
	c.MaxBytes = 0
	return c
}

// sized is an event of exactly so many bytes as Envelope.Size counts, with a payload that no part of it repeats.
func sized(key string, size int) pulse.Raw {
	env := pulse.Envelope{Name: "lesson.changed", Source: "/school", Key: key, Correlation: correlation}
	body := make([]byte, size-env.Size()-2)
	for i := range body {
		body[i] = 'a' + byte(i*7%26)
	}
	return pulse.Raw{Name: env.Name, Key: key, Data: append(append([]byte{'"'}, body...), '"')}
}

const correlation = "sizes"

// Payloads from the smallest to exactly the limit arrive byte for byte. One that is a byte larger is a dead letter of the relay which says
// why; it holds up its key and nobody else.
func TestPayloadSizes(t *testing.T) {
	t.Parallel()
	b := embed(t, t.TempDir(), natsbroker.Options{})
	limit := b.Publisher().Capabilities().MaxBytes
	bus, err := pulse.New(memstore.New(&memstore.Options{MaxEventBytes: 2 * limit}), &pulse.Options{Source: "/school", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Publish("nats", b.Publisher()); err == nil {
		t.Error("a destination that takes less than the log was added")
	}
	if err := bus.Publish("nats", brokerOnly{b.Publisher()}); err != nil {
		t.Fatal(err)
	}
	ctx := pulse.WithCorrelation(t.Context(), correlation)
	var fits []json.RawMessage
	emit := func(raw pulse.Raw) {
		t.Helper()
		if _, err := bus.Emit(ctx, raw); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{`null`, `""`, `0`, `{}`, `"\u0000"`} {
		raw := pulse.Raw{Name: "lesson.changed", Key: "fits", Data: json.RawMessage(text)}
		fits = append(fits, raw.Data)
		emit(raw)
	}
	others := 0
	for _, size := range []int{1 << 10, 32<<10 - 1, 32 << 10, 64 << 10, 512 << 10, limit - 1, limit} {
		raw := sized("fits", size)
		fits = append(fits, raw.Data)
		emit(raw)
		emit(sized("too-large", limit+1))
		emit(pulse.Raw{Name: "lesson.changed", Data: json.RawMessage(`"no key"`)})
		others++
	}
	running, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- bus.Run(running) }()
	js, _ := admin(t, b)
	stream, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "publishing", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs >= uint64(len(fits)+others)
	})
	dead, err := bus.Deliveries(t.Context(), pulse.DeliveryQuery{Subscription: pulse.RelayName("nats"), Statuses: []pulse.DeliveryStatus{pulse.StatusDead}})
	if err != nil || len(dead) != 1 || dead[0].Key != "too-large" || !strings.Contains(dead[0].Error, "the server") {
		t.Errorf("dead letters %+v, %v, want the first that is too large, and why", dead, err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	came := map[string][]json.RawMessage{}
	for seq := range stream.CachedInfo().State.LastSeq {
		m, err := stream.GetMsg(t.Context(), seq+1)
		if err != nil {
			t.Fatal(err)
		}
		key := m.Header.Get("ce-subject")
		came[key] = append(came[key], m.Data)
	}
	if len(came["fits"]) != len(fits) || len(came[""]) != others || len(came) != 2 {
		t.Fatalf("%d that fit came, want %d; %d without a key, want %d; of %d keys", len(came["fits"]), len(fits), len(came[""]), others, len(came))
	}
	for i := range fits {
		if !bytes.Equal(came["fits"][i], fits[i]) {
			t.Errorf("payload %d of %d bytes came as one of %d", i, len(fits[i]), len(came["fits"][i]))
		}
	}
}

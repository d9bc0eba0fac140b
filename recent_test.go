package pulse

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func eventAt(p Position, data string) Envelope {
	return Envelope{Position: p, Name: "lesson.published", Data: []byte(data), Commitment: [32]byte{byte(p), byte(len(data))}}
}

// What is found is the event with that position and that commitment, and a copy of it.
func TestRecent(t *testing.T) {
	var r recent
	early := eventAt(1, `{"n":1}`)
	r.keep([]Envelope{early})
	if _, ok := r.find(Cursor{Position: 1, Commitment: early.Commitment}); ok {
		t.Error("events are kept though nobody wants them")
	}
	r.wanted()
	large := eventAt(3, `"`+strings.Repeat("x", recentSize)+`"`)
	other := early
	other.Commitment[31]++
	r.keep([]Envelope{early, eventAt(2, `{"n":2}`), large})
	for name, c := range map[string]struct {
		env  Envelope
		want bool
	}{
		"published":                  {early, true},
		"another commitment":         {other, false},
		"too large to be kept":       {large, false},
		"never published":            {eventAt(7, `{}`), false},
		"no position":                {Envelope{}, false},
		"a position that is too low": {eventAt(-1, `{}`), false},
		"in the place of another":    {eventAt(1+recentEvents, `{"n":1}`), false},
	} {
		if _, ok := r.find(Cursor{Position: c.env.Position, Commitment: c.env.Commitment}); ok != c.want {
			t.Errorf("%s: found is %v", name, ok)
		}
	}
	got, _ := r.find(Cursor{Position: 1, Commitment: early.Commitment})
	got.Data[1] = '!'
	if again, _ := r.find(Cursor{Position: 1, Commitment: early.Commitment}); !bytes.Equal(again.Data, []byte(`{"n":1}`)) {
		t.Errorf("who changes what was found changes what others find: %s", again.Data)
	}
	r.keep([]Envelope{eventAt(1+recentEvents, `{"n":1}`)})
	if _, ok := r.find(Cursor{Position: 1, Commitment: early.Commitment}); ok {
		t.Error("an event is found whose place was taken")
	}
	r.forget()
	if _, ok := r.find(Cursor{Position: 2, Commitment: eventAt(2, `{"n":2}`).Commitment}); ok {
		t.Error("an event is found after all were forgotten")
	}
}

// Room is made as events come, and none is lost by it: the last ones are there, as many as there may be.
func TestRecentGrows(t *testing.T) {
	var r recent
	r.wanted()
	const n = 3 * recentEvents
	for p := Position(1); p <= n; p++ {
		r.keep([]Envelope{eventAt(p, `{}`)})
		first := max(1, p-recentEvents+1)
		for _, q := range []Position{first, (first + p) / 2, p} {
			if _, ok := r.find(Cursor{Position: q, Commitment: eventAt(q, `{}`).Commitment}); !ok {
				t.Fatalf("position %d is lost when %d came", q, p)
			}
		}
	}
	if len(r.events) != recentEvents {
		t.Errorf("there is room for %d events", len(r.events))
	}
}

// What is behind a position comes up to the first event that is not here, and as copies.
func TestRecentAfter(t *testing.T) {
	var r recent
	r.wanted()
	r.keepRecords([]Record{{Envelope: eventAt(0, `{}`)}, {Envelope: eventAt(1, `{"n":1}`)}, {Envelope: eventAt(2, `{"n":2}`)}, {Envelope: eventAt(4, `{"n":4}`)}})
	positions := func(envs []Envelope) (all []Position) {
		for _, env := range envs {
			all = append(all, env.Position)
		}
		return all
	}
	for _, c := range []struct {
		after, limit Position
		want         []Position
	}{
		{0, 10, []Position{1, 2}}, // another process has emitted what is at 3
		{0, 1, []Position{1}},
		{1, 10, []Position{2}},
		{2, 10, nil},
		{3, 10, []Position{4}},
		{4, 10, nil},
		{recentEvents, 10, nil},
	} {
		if got := positions(r.after(c.after, c.limit)); !slices.Equal(got, c.want) {
			t.Errorf("after %d, %d at most: %v, want %v", c.after, c.limit, got, c.want)
		}
	}
	r.after(0, 1)[0].Data[1] = '!'
	if again := r.after(0, 1); !bytes.Equal(again[0].Data, []byte(`{"n":1}`)) {
		t.Errorf("who changes what was read changes what others read: %s", again[0].Data)
	}
}

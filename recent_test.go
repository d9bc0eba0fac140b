package pulse

import (
	"bytes"
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
	r.published([]Envelope{early})
	if _, ok := r.find(Cursor{Position: 1, Commitment: early.Commitment}); ok {
		t.Error("events are kept though nobody wants them")
	}
	r.wanted()
	large := eventAt(3, `"`+strings.Repeat("x", recentSize)+`"`)
	other := early
	other.Commitment[31]++
	r.published([]Envelope{early, eventAt(2, `{"n":2}`), large})
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
	r.published([]Envelope{eventAt(1+recentEvents, `{"n":1}`)})
	if _, ok := r.find(Cursor{Position: 1, Commitment: early.Commitment}); ok {
		t.Error("an event is found whose place was taken")
	}
	r.forget()
	if _, ok := r.find(Cursor{Position: 2, Commitment: eventAt(2, `{"n":2}`).Commitment}); ok {
		t.Error("an event is found after all were forgotten")
	}
}

package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/memstore"
)

// sickStore is a store in memory that tells of illnesses a sound one cannot have.
type sickStore struct {
	*memstore.Store
	states  []pulse.SubscriptionState
	missing pulse.Position // left out of what Read returns
	damage  error          // of CheckIntegrity
	forged  bool           // Records returns events that were changed
	purged  pulse.Position // left out of what Records returns
	epoch   int            // of the log; 0 for its own
	silent  bool           // Info fails
}

func (s *sickStore) States(context.Context) ([]pulse.SubscriptionState, error) { return s.states, nil }

func (s *sickStore) Info(ctx context.Context) (pulse.Info, error) {
	info, err := s.Store.Info(ctx)
	if s.silent {
		return pulse.Info{}, errors.New("gone for a moment")
	}
	if s.epoch != 0 {
		info.Epoch = s.epoch
	}
	return info, err
}

func (s *sickStore) CheckIntegrity(context.Context) error { return s.damage }

func (s *sickStore) Read(ctx context.Context, q pulse.Query) (pulse.Page, error) {
	page, err := s.Store.Read(ctx, q)
	for i, e := range page.Envelopes {
		if e.Position == s.missing {
			page.Envelopes = append(page.Envelopes[:i:i], page.Envelopes[i+1:]...)
			break
		}
	}
	return page, err
}

// Records makes records anew, as a store with salts would give them.
func (s *sickStore) Records(ctx context.Context, after pulse.Position, limit int) ([]pulse.Record, error) {
	page, err := s.Store.Read(ctx, pulse.Query{After: after, Limit: min(limit, 2)})
	if err != nil {
		return nil, err
	}
	recs := make([]pulse.Record, len(page.Envelopes))
	for i, e := range page.Envelopes {
		recs[i] = pulse.Record{Envelope: e, Origin: "test"}
		if err := recs[i].Commit(); err != nil {
			return nil, err
		}
	}
	if s.forged && after > 0 {
		recs[0].Data = []byte(`{"forged":true}`)
	}
	return slices.DeleteFunc(recs, func(r pulse.Record) bool { return r.Position == s.purged }), nil
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	const n = 5
	handled := func(p pulse.Position) pulse.SubscriptionState {
		return pulse.SubscriptionState{Name: "mailer", Head: n, Cursor: pulse.Cursor{Epoch: 1, Position: p}}
	}
	with := func(s pulse.SubscriptionState, change func(*pulse.SubscriptionState)) []pulse.SubscriptionState {
		change(&s)
		return []pulse.SubscriptionState{s}
	}
	for name, tc := range map[string]struct {
		sick sickStore
		want string // one finding
	}{
		"sound": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.Holder = "vm/1/a" })},
			"ok subscription mailer: 2 events behind",
		},
		"nothing to do": {sickStore{states: []pulse.SubscriptionState{handled(n)}}, "ok subscription mailer: 0 events behind"},
		"nobody runs it": {
			sickStore{states: []pulse.SubscriptionState{handled(3)}},
			"warn subscription mailer: 2 events behind, and nothing runs it: start the application",
		},
		"nobody publishes": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.Name = "relay/nats" })},
			"warn destination nats: 2 events behind, and nothing publishes: start pulse serve",
		},
		"cursor ahead of the log": {
			sickStore{states: []pulse.SubscriptionState{handled(9)}},
			"fail subscription mailer: it has handled up to position 9, but the log ends at 5: the log was restored",
		},
		"a relay ahead of the log": {
			sickStore{states: with(handled(9), func(s *pulse.SubscriptionState) { s.Name = "relay/nats" })},
			"fail destination nats: it has handled up to position 9, but the log ends at 5: the log was restored or replaced; restore the newer log; or, " +
				"to publish this one from its beginning, give it an empty place at the broker and pulse subscription drop relay/nats",
		},
		"another event at the cursor": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.Cursor.Commitment = [32]byte{1} })},
			"fail subscription mailer: the event at position 3 is not the one it has handled",
		},
		"an older epoch": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.Cursor.Epoch = 4 }), epoch: 2},
			"fail subscription mailer: it has seen epoch 4, but the log is in epoch 2",
		},
		"far behind": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.Head, s.Holder = 20_003, "vm/1/a" })},
			"warn subscription mailer: 20000 events behind: is it fast enough?",
		},
		"paused": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.PausedUntil, s.PauseReason = pulse.Forever, "move" })},
			"warn subscription mailer: paused (move): pulse subscription resume mailer",
		},
		"stopped by itself": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) {
				s.PausedUntil, s.PauseReason = pulse.Forever, pulse.ErrDiverged.Error()+": position 7"
			})},
			"fail subscription mailer: stopped itself (cursor and log diverged: position 7): once that is mended, pulse subscription resume mailer",
		},
		"paused for a while": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.PausedUntil = time.Now().Add(time.Hour) })},
			"(no reason given)",
		},
		"blocked": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.Blocked, s.Waiting = 2, 7 })},
			"warn subscription mailer: 2 keys held up, 7 waiting behind",
		},
		"dead letters": {
			sickStore{states: with(handled(3), func(s *pulse.SubscriptionState) { s.Dead = 4 })},
			"warn subscription mailer: 4 dead letters: pulse dead list mailer",
		},
		"a gap":            {sickStore{missing: 3}, "fail sequence: position 3 is missing"},
		"a gap at the end": {sickStore{missing: n}, "fail sequence: position 5 is missing"},
		"damage":           {sickStore{damage: errors.New("page 7 is torn")}, "fail integrity: page 7 is torn"},
		"no damage":        {sickStore{}, "ok integrity: the file is sound"},
		"a forged event":   {sickStore{forged: true}, "fail commitments: tampered: "},
		"a purged event":   {sickStore{purged: 2}, "fail commitments: 1 event of all 5 events cannot be verified, as a purge is marked there"},
		"nothing forged":   {sickStore{}, "ok commitments: all 5 events are what was committed"},
	} {
		t.Run(name, func(t *testing.T) {
			store := tc.sick
			store.Store = memstore.New(nil)
			bus, err := pulse.New(&store, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer bus.Close()
			for range n {
				if _, err := bus.Emit(t.Context(), pulse.Raw{Name: "a.b", Data: []byte(`{}`)}); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			d := &doctor{app: &App{Store: &store, Bus: bus, Config: sqliteAt("x.db")}, tell: func(f Finding) error {
				got = append(got, string(f.Verdict)+" "+f.Check+": "+f.Detail)
				return nil
			}}
			if err := d.examine(t.Context()); err != nil {
				t.Fatal(err)
			}
			all := strings.Join(got, "\n")
			if !strings.Contains(all, tc.want) {
				t.Errorf("%q is missing in:\n%s", tc.want, all)
			}
			if strings.Contains(all, "fail") != strings.HasPrefix(tc.want, "fail") {
				t.Errorf("other things are blamed too:\n%s", all)
			}
		})
	}
}

// A log that cannot be looked at is not said to be empty, nor other things to be ahead of it.
func TestDoctorOnALogThatIsGoneForAMoment(t *testing.T) {
	store := sickStore{Store: memstore.New(nil), states: []pulse.SubscriptionState{{Name: "mailer", Head: 5, Cursor: pulse.Cursor{Epoch: 1, Position: 3}}}}
	bus, err := pulse.New(&store, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	store.silent = true
	var got []string
	d := &doctor{app: &App{Store: &store, Bus: bus}, tell: func(f Finding) error {
		got = append(got, string(f.Verdict)+" "+f.Check+": "+f.Detail)
		return nil
	}}
	if err := d.examine(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fail store: gone for a moment", "ok integrity: the file is sound"}; !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestShowBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 1 << 63: "8192.0 PiB"} {
		if got := showBytes(n); got != want {
			t.Errorf("%d is shown as %s, want %s", n, got, want)
		}
	}
}

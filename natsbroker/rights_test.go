package natsbroker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// schoolWithout are the options of a server whose user may not publish to some subjects.
func schoolWithout(denied ...string) *server.Options {
	user := &server.User{Username: "school", Password: "chalk", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: denied}}}
	return &server.Options{Users: []*server.User{user}}
}

// A right that is missing for one name of many: what is before the first such event is published, whether it goes one by one or in a
// batch; nothing that is behind, and none is refused for good. Who publishes is told the subject and what to grant. Once it is granted
// all the others follow.
func TestOneSubjectIsForbidden(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 9, 30, 2500} {
		for place, at := range map[string]int{"first": 0, "inside": n / 2, "last": n - 1} {
			t.Run(fmt.Sprintf("%s of %d", place, n), func(t *testing.T) {
				t.Parallel()
				options := schoolWithout("pulse.0.quiz.>")
				s := run(t, options)
				b, err := natsbroker.Connect(t.Context(), s.ClientURL(), &natsbroker.Options{Log: quiet, Auth: natsbroker.Auth{User: "school", Password: "chalk"}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { b.Close() })
				envs, p := events(1, n), b.Publisher()
				envs[at].Name = "quiz.submitted"
				rest, why := envs, error(nil)
				// A batch, what is before, and the one that is forbidden; a slow machine may cut one short and needs more.
				stuck := 0
				for deadline := time.Now().Add(time.Minute); stuck < 3 && time.Now().Before(deadline); {
					acked := 0
					for _, r := range p.PublishBatch(t.Context(), rest) {
						switch r.Outcome {
						case pulse.Acked:
							acked++
						case pulse.Unknown:
							why = r.Err
						default:
							t.Fatalf("an event got outcome %d: %v", r.Outcome, r.Err)
						}
					}
					rest = rest[acked:]
					if stuck++; acked > 0 {
						stuck = 0
					}
				}
				if len(rest) != n-at {
					t.Errorf("%d events of %d before the forbidden one are published", n-len(rest), at)
				}
				for _, part := range []string{`"pulse.0.quiz.submitted"`, "the user school lacks a right to publish", `grant it in the server's configuration, best for "pulse.0.>"`} {
					if !strings.Contains(fmt.Sprint(why), part) {
						t.Errorf("%q is missing in: %v", part, why)
					}
				}
				granted := *options
				granted.Users = schoolWithout("nothing.of.ours").Users
				if err := s.ReloadOptions(&granted); err != nil {
					t.Fatal(err)
				}
				publishUntil(t, p, rest)
				for i, m := range readAll(t, b, n) {
					if m.Position != pulse.Position(i+1) {
						t.Fatalf("position %d came as number %d", m.Position, i+1)
					}
				}
			})
		}
	}
}

package integration_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/brokertest"
)

// kcat, which is librdkafka, reads what Pulse publishes, and Pulse reads what it writes.
func TestKcat(t *testing.T) {
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		t.Skip("kcat is missing: run scripts/setup.sh")
	}
	address, b := kafka(t)
	env := brokertest.Envelope(1, func(e *pulse.Envelope) { e.Key = "żółw 100%" })
	if r := b.Publisher().PublishBatch(t.Context(), []pulse.Envelope{env}); r[0].Outcome != pulse.Acked {
		t.Fatalf("%+v", r)
	}
	out, err := exec.CommandContext(t.Context(), kcat, "-b", address, "-t", "pulse", "-C", "-e", "-q", "-J").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Key, Payload string
		Headers      []string
	}
	if err := json.Unmarshal(bytes.TrimSpace(out), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	headers := map[string]string{}
	for i := 0; i+1 < len(got.Headers); i += 2 {
		headers[got.Headers[i]] = got.Headers[i+1]
	}
	if got.Key != env.Key || got.Payload != string(env.Data) || headers["ce_id"] != env.ID.String() || headers["ce_type"] != env.Name ||
		headers["ce_subject"] != env.Key || headers["ce_specversion"] != "1.0" || headers["content-type"] != "application/json" {
		t.Errorf("kcat reads %+v", got)
	}
	write := exec.CommandContext(t.Context(), kcat, "-b", address, "-t", "pulse", "-P", "-k", "lesson-7",
		"-H", "ce_specversion=1.0", "-H", "ce_id="+env.ID.String(), "-H", "ce_source=/kcat", "-H", "ce_type=quiz.submitted", "-H", "ce_other=kept", "-H", "content-type=application/json")
	write.Stdin = strings.NewReader(`{"points":7}`)
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := b.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "quizzes", Names: []string{"quiz.submitted"}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	msgs, err := f.Fetch(t.Context(), 1)
	if err != nil || msgs[0].Key != "lesson-7" || string(msgs[0].Data) != `{"points":7}` || string(msgs[0].Extensions) != `{"other":"kept"}` || msgs[0].Source != "/kcat" {
		t.Errorf("Pulse reads %+v, %v", msgs, err)
	}
}

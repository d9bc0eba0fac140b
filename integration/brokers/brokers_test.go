package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/bench"
)

// TestRun measures a little with each broker: all numbers are in the table.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--events", "1000", "--rounds", "1"}, &out); err != nil {
		t.Fatal(err)
	}
	const whole, ratio = `[1-9]\d*/s`, `\d\.\d\d`
	for broker, parts := range map[string]map[string]string{
		"NATS JetStream, embedded": {"the client alone": whole},
		`RabbitMQ \d+\.\d+\.\d+`:   {"the client alone": whole},
		"Kafka, which is kfake":    {"the client alone": whole},
	} {
		parts[`the relay, \d+ waiting events`] = whole
		parts["reading and encoding alone"] = whole
		parts["the relay, of the slower of its parts"] = ratio
		for part, value := range parts {
			if !regexp.MustCompile(`(?m)^` + broker + `.*  ` + part + ` +` + value + `$`).MatchString(out.String()) {
				t.Errorf("there is no %s of %s", part, broker)
			}
		}
	}
	if t.Failed() || strings.Count(out.String(), "\n") != 12 {
		t.Errorf("the table:\n%s", out.String())
	}
}

// TestMissing goes on without a broker that is not installed, and not without one that fails.
func TestMissing(t *testing.T) {
	failing := func(err error) func(context.Context, string, *bench.Options) (*subject, error) {
		return func(context.Context, string, *bench.Options) (*subject, error) { return nil, err }
	}
	var out bytes.Buffer
	s := settings{only: []string{"pigeon", "nats"}, events: 100, rounds: 1}
	err := s.measure(t.Context(), []entry{{"pigeon", failing(missing("The pigeon"))}, {"nats", openNATS}}, &out)
	if err != nil || !strings.HasSuffix(out.String(), "The pigeon is not installed: nothing was measured with it\n") || !strings.Contains(out.String(), "NATS") {
		t.Errorf("%v, and the table:\n%s", err, out.String())
	}
	err = s.measure(t.Context(), []entry{{"pigeon", failing(pulse.ErrBroker)}}, &out)
	if err == nil || !strings.Contains(err.Error(), "pigeon") {
		t.Errorf("a broker failed: %v", err)
	}
}

func TestFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown broker": {"--only", "kafka,pigeon"},
		"no events":      {"--events", "0"},
		"no rounds":      {"--rounds", "-1"},
		"unknown flag":   {"--fast"},
	} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

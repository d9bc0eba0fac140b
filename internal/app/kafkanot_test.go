//go:build !kafka

package app

import (
	"strings"
	"testing"
)

// A command without Kafka says how to build one with it.
func TestWithoutKafka(t *testing.T) {
	_, err := LoadConfig(Inputs{Flags: map[string]string{"broker": "kafka://u:secret@host"}, Getenv: getenv(nil), Serve: true})
	if err == nil || !strings.Contains(err.Error(), "go build -tags kafka") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

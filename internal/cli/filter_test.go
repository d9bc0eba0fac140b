package cli

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{ // "" when it is refused
		"2026-11-23T08:00:00Z":        "2026-11-23T08:00:00Z",
		"2026-11-23T08:00:00.5+02:00": "2026-11-23T06:00:00.5Z",
		"2026-11-23":                  "2026-11-23T00:00:00Z",
		"2h":                          "2026-11-23T10:00:00Z",
		"1h30m":                       "2026-11-23T10:30:00Z",
		"7d":                          "2026-11-16T12:00:00Z",
		"0s":                          "2026-11-23T12:00:00Z",
		"-2h":                         "",
		"7":                           "",
		"d":                           "",
		"-1d":                         "",
		"99999999d":                   "",
		"tomorrow":                    "",
		"2026-13-01":                  "",
		"2026-11-23 08:00:00":         "",
		"99999999999999999999999h":    "",
		"2026-11-23T08:00:00":         "",
	} {
		got, err := parseTime("--since", in, now)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s is read as %s", in, got)
		case want != "" && (err != nil || got.UTC().Format(time.RFC3339Nano) != want):
			t.Errorf("%s is read as %s, error %v, want %s", in, got, err, want)
		}
		if err != nil && exitCode(t.Context(), err) != exitUsage {
			t.Errorf("%s: exit code %d", in, exitCode(t.Context(), err))
		}
	}
}

func TestParseUUID(t *testing.T) {
	for in, ok := range map[string]bool{
		"": true, "3f0b8e9a-3c55-4c1e-9d53-0f6a8f1f7d10": true, "3F0B8E9A-3C55-4C1E-9D53-0F6A8F1F7D10": true,
		"3f0b8e9a3c554c1e9d530f6a8f1f7d10": false, "{3f0b8e9a-3c55-4c1e-9d53-0f6a8f1f7d10}": false,
		"urn:uuid:3f0b8e9a-3c55-4c1e-9d53-0f6a8f1f7d10": false, "x": false,
	} {
		if _, err := parseUUID("--id", in); (err == nil) != ok {
			t.Errorf("%q: error %v", in, err)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	f.Add("7d")
	f.Add("2026-11-23T08:00:00Z")
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := parseTime("--since", s, now); err == nil && s != "" && got.IsZero() && s != "0001-01-01" && got.Year() != 1 {
			t.Errorf("%q is read as no bound", s)
		}
	})
}

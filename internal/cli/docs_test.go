package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse/internal/app"
)

// TestGuideListsSettings: flag, variable and default of each setting are in the guide.
func TestGuideListsSettings(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range app.Settings() {
		row := "| `--" + s.Name + "` | `" + s.Variable + "` | "
		if s.Default != "" {
			row += "`" + s.Default + "` "
		}
		if !strings.Contains(string(guide), row+"| ") {
			t.Errorf("docs/guide.md has no row that begins with %s", row)
		}
	}
}

// TestReadmeNamesCommands: each command is in the README.
func TestReadmeNamesCommands(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands(&environment{}) {
		if c.Name() != "version" && !strings.Contains(string(readme), "`pulse "+c.Name()) {
			t.Errorf("README.md does not name pulse %s", c.Name())
		}
	}
}

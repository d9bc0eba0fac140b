package demo

import (
	"os"
	"path/filepath"
	"testing"
)

// A secret that a killed process was just making goes with the one of the run.
func TestNoSecretIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, secretFile+".123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newSecret(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := removeSecret(dir); err != nil {
			t.Fatal(err)
		}
		noSecretIn(t, dir)
	}
}

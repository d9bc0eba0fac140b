package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// What was recorded and could not be printed is named: who emits it again without its id has it twice.
func TestRecordedButNotPrinted(t *testing.T) {
	id, full := uuid.New(), errors.New("no space left on device")
	if err := recorded(id, full); !errors.Is(err, full) || !strings.Contains(err.Error(), id.String()) {
		t.Error(err)
	}
	if err := recorded(id, nil); err != nil {
		t.Error(err)
	}
}

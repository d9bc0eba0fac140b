package pulse

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const vectorFile = "testdata/commitment_vectors.json"

// vector is one event and all that is computed on the way to its commitment, in hex. Absent items are null.
type vector struct {
	Name, Origin, Event, Version, Data string

	ID           uuid.UUID
	OccurredAtUS string `json:"occurred_at_us"`

	Actor, Causation              *uuid.UUID
	Key, Correlation, Traceparent *string

	FactSalt    string `json:"fact_salt"`
	LinkSalt    string `json:"link_salt"`
	FactContent string `json:"fact_content"`
	LinkContent string `json:"link_content"`
	FactInput   string `json:"fact_input"`
	LinkInput   string `json:"link_input"`
	FactDigest  string `json:"fact_digest"`
	LinkDigest  string `json:"link_digest"`
	CommitInput string `json:"commit_input"`
	Commitment  string
}

func readVectors(t *testing.T) []vector {
	t.Helper()
	raw, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Format  int
		Vectors []vector
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if file.Format != CommitFormat || len(file.Vectors) < 8 {
		t.Fatalf("%d vectors of format %d", len(file.Vectors), file.Format)
	}
	return file.Vectors
}

func (v *vector) record(t *testing.T) *Record {
	t.Helper()
	version, err := strconv.Atoi(v.Version)
	if err != nil {
		t.Fatal(err)
	}
	micros, err := strconv.ParseInt(v.OccurredAtUS, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return &Record{Origin: v.Origin, Envelope: Envelope{
		ID: v.ID, Name: v.Event, Version: version, OccurredAt: time.UnixMicro(micros).UTC(), Data: []byte(v.Data),
		Actor: orZero(v.Actor), Key: orZero(v.Key), Correlation: orZero(v.Correlation), Causation: orZero(v.Causation),
		Trace: orZero(v.Traceparent),
	}}
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func salt(t *testing.T, s string) [32]byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		t.Fatalf("salt %q: %v", s, err)
	}
	return [32]byte(b)
}

func TestCommitmentVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			r := v.record(t)
			if err := r.commit(salt(t, v.FactSalt), salt(t, v.LinkSalt)); err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct {
				name string
				got  []byte
				want string
			}{
				{"fact content", r.appendFact(nil), v.FactContent},
				{"link content", r.appendLink(nil), v.LinkContent},
				{"fact input", r.appendFactInput(nil), v.FactInput},
				{"link input", r.appendLinkInput(nil), v.LinkInput},
				{"digests", r.Digests, v.FactDigest + v.LinkDigest},
				{"commit input", appendCommitInput(nil, r.Digests), v.CommitInput},
				{"commitment", r.Commitment[:], v.Commitment},
			} {
				if got := hex.EncodeToString(step.got); got != step.want {
					t.Errorf("%s is %s, want %s", step.name, got, step.want)
				}
			}
			if err := r.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whoever reads the decision and has SHA-256 gets the same bytes: the script shares nothing with this package.
func TestCommitmentVectorsInNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node not installed")
	}
	out, err := exec.Command(node, "testdata/verify_commitment.mjs").CombinedOutput()
	n := len(readVectors(t))
	if want := strconv.Itoa(n) + " of " + strconv.Itoa(n) + " vectors agree"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s", err, out)
	}

	raw, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(t.TempDir(), "forged.json")
	if err := os.WriteFile(forged, bytes.Replace(raw, []byte(`"lesson-7"`), []byte(`"lesson-8"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = exec.Command(node, "testdata/verify_commitment.mjs", forged).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "everything present: link_content is") {
		t.Errorf("one key changed, and the script says %v: %s", err, out)
	}
}

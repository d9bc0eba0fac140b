package pulse

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func committed(t testing.TB) *Record {
	t.Helper()
	r := &Record{
		Envelope: Envelope{
			ID:          uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11"),
			Name:        "lesson.published",
			Version:     1,
			Source:      "/school",
			OccurredAt:  time.Date(2026, 3, 4, 5, 6, 7, 891_000, time.UTC),
			Actor:       uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b12"),
			Correlation: "req-1",
			Causation:   uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b13"),
			Key:         "lesson-7",
			Trace:       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			Data:        []byte(lessonJSON),
		},
		Origin: "school",
	}
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCommitThenVerify(t *testing.T) {
	r := committed(t)
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	if r.Format != CommitFormat || len(r.Digests) != 64 || r.Commitment == [32]byte{} {
		t.Errorf("format %d, %d bytes of digests, commitment %x", r.Format, len(r.Digests), r.Commitment)
	}
	if r.FactSalt == r.LinkSalt || r.FactSalt == [32]byte{} || r.LinkSalt == [32]byte{} {
		t.Errorf("salts %x and %x", r.FactSalt, r.LinkSalt)
	}
	again := committed(t)
	if again.FactSalt == r.FactSalt || again.LinkSalt == r.LinkSalt || again.Commitment == r.Commitment {
		t.Error("two commits of one event share salts: whoever holds one digest could tell the content of the other")
	}
}

// The promise is about each field by itself: change one, and Verify must see it in the part it belongs to.
func TestVerifyFindsEveryEditOfACommittedField(t *testing.T) {
	other := uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-000000000000")
	for name, tc := range map[string]struct {
		edit func(r *Record)
		part string
	}{
		"id":                {func(r *Record) { r.ID = other }, "payload"},
		"name":              {func(r *Record) { r.Name = "lesson.publishee" }, "payload"},
		"version":           {func(r *Record) { r.Version = 2 }, "payload"},
		"occurred at":       {func(r *Record) { r.OccurredAt = r.OccurredAt.Add(time.Microsecond) }, "payload"},
		"data":              {func(r *Record) { r.Data = append(bytes.Clone(r.Data), ' ') }, "payload"},
		"origin":            {func(r *Record) { r.Origin = "schoo" }, "payload"},
		"fact salt":         {func(r *Record) { r.FactSalt[31]++ }, "payload"},
		"fact digest":       {func(r *Record) { r.Digests[0]++ }, "payload"},
		"name into version": {func(r *Record) { r.Name, r.Data = r.Name[:4], []byte(r.Name[4:]) }, "payload"},
		"actor":             {func(r *Record) { r.Actor = other }, "actor"},
		"actor removed":     {func(r *Record) { r.Actor = uuid.Nil }, "actor"},
		"key":               {func(r *Record) { r.Key = "lesson-8" }, "actor"},
		"key removed":       {func(r *Record) { r.Key = "" }, "actor"},
		"correlation":       {func(r *Record) { r.Correlation = "req-2" }, "actor"},
		"key, correlation":  {func(r *Record) { r.Key, r.Correlation = r.Correlation, r.Key }, "actor"},
		"causation":         {func(r *Record) { r.Causation = other }, "actor"},
		"trace":             {func(r *Record) { r.Trace = "" }, "actor"},
		"link salt":         {func(r *Record) { r.LinkSalt[0]++ }, "actor"},
		"link digest":       {func(r *Record) { r.Digests[63]++ }, "actor"},
		"commitment":        {func(r *Record) { r.Commitment[31]++ }, "commitment is not"},
		"digest missing":    {func(r *Record) { r.Digests = r.Digests[:32] }, "32 bytes"},
		"digest too many":   {func(r *Record) { r.Digests = append(r.Digests, 0) }, "65 bytes"},
		"no digests":        {func(r *Record) { r.Digests = nil }, "0 bytes"},
	} {
		r := committed(t)
		tc.edit(r)
		err := r.Verify()
		if !errors.Is(err, ErrTampered) || !strings.Contains(err.Error(), tc.part) {
			t.Errorf("%s edited: %v, want an ErrTampered about %q", name, err, tc.part)
		}
	}
}

// What Commit's comment lists as unproven: if one of these begins to matter, the comment is wrong.
func TestVerifySaysNothingAboutUnprovenFields(t *testing.T) {
	r := committed(t)
	r.Source = "/elsewhere"
	r.Extensions = []byte(`{"a":"b"}`)
	r.RecordedAt = time.Now()
	r.Position = 7
	r.TimeGiven = true
	r.OccurredAt = r.OccurredAt.In(time.FixedZone("", 3600)) // the same moment
	if err := r.Verify(); err != nil {
		t.Error(err)
	}
}

func TestCommitRefusesWhatCannotBeProved(t *testing.T) {
	for name, edit := range map[string]func(r *Record){
		"no id":       func(r *Record) { r.ID = uuid.Nil },
		"no origin":   func(r *Record) { r.Origin = "" },
		"nanoseconds": func(r *Record) { r.OccurredAt = r.OccurredAt.Add(1) },
	} {
		r := committed(t)
		edit(r)
		before := *r
		if err := r.Commit(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Commit gives %v, want ErrInvalid", name, err)
		}
		if r.FactSalt != before.FactSalt || r.Commitment != before.Commitment {
			t.Errorf("%s: a refused Commit changed the record", name)
		}
		if err := r.Verify(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Verify gives %v, want ErrInvalid", name, err)
		}
	}
	r := committed(t)
	r.Format = 2
	if err := r.Verify(); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrTampered) {
		t.Errorf("format 2: %v, want ErrInvalid", err)
	}
}

func TestCommitWritesNothingIntoSharedDigests(t *testing.T) {
	r := committed(t)
	first, copied := r.Digests, bytes.Clone(r.Digests)
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, copied) {
		t.Error("the second Commit wrote over the digests of the first")
	}
}

func TestSaltedHashIsHMAC(t *testing.T) {
	for size := range 300 {
		var salt [32]byte
		buf := make([]byte, sha256.BlockSize+size)
		_, _ = rand.Read(salt[:])
		_, _ = rand.Read(buf)
		mac := hmac.New(sha256.New, salt[:])
		mac.Write(buf[sha256.BlockSize:])
		if got := saltedHash(&salt, buf); !bytes.Equal(got[:], mac.Sum(nil)) {
			t.Fatalf("%d bytes: %x, crypto/hmac says %x", size, got, mac.Sum(nil))
		}
	}
}

func TestCommitOfALargePayload(t *testing.T) {
	r := committed(t)
	for _, size := range []int{roomy - 400, roomy, 1 << 20} {
		r.Data = bytes.Repeat([]byte{'1'}, size)
		if err := errors.Join(r.Commit(), r.Verify()); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		r.Data[size-1]++
		if err := r.Verify(); !errors.Is(err, ErrTampered) {
			t.Errorf("%d bytes, the last changed: %v", size, err)
		}
	}
}

func TestCommitAllocates(t *testing.T) {
	r := committed(t)
	if n := testing.AllocsPerRun(100, func() { _ = r.Commit() }); n > 2 {
		t.Errorf("Commit allocates %v times, want 1, the digests; the race detector makes it 2", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = r.Verify() }); n != 0 {
		t.Errorf("Verify allocates %v times, want 0", n)
	}
}

func BenchmarkCommit(b *testing.B) {
	r := committed(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Commit()
	}
}

func BenchmarkVerify(b *testing.B) {
	r := committed(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Verify()
	}
}

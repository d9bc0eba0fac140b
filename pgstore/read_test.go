package pgstore_test

import (
	"context"
	"errors"
	"testing"
)

// Who stops waiting just before the queries are sent gets an error, and the connection can be used again.
func TestReadGivenUpBeforeSending(t *testing.T) {
	s := openStore(t, newDatabase(t))
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.ReadAfter(ctx, cancel); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if err := s.ReadAfter(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
}

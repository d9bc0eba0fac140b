package app

import (
	"fmt"
	"strings"
)

// StoreSpec says which store to open.
type StoreSpec struct {
	Kind string // KindSQLite or KindMemory
	Path string // of the file, for KindSQLite
}

// Kinds of stores.
const (
	KindSQLite = "sqlite"
	KindMemory = "memory"
)

// String is the form ParseStore reads.
func (s StoreSpec) String() string { return s.Kind + ":" + s.Path }

// ParseStore reads "sqlite:PATH" or "memory:".
func ParseStore(v string) (StoreSpec, error) {
	kind, rest, found := strings.Cut(v, ":")
	switch {
	case v == "":
		return StoreSpec{}, fmt.Errorf("the store is empty: give one, such as sqlite:pulse.db")
	case !found:
		return StoreSpec{}, fmt.Errorf("the store %q does not say its kind: write sqlite:%s", v, v)
	case kind == KindMemory && rest == "":
		return StoreSpec{Kind: KindMemory}, nil
	case kind == KindMemory:
		return StoreSpec{}, fmt.Errorf("the store %q has something after memory: a store in memory has no name", v)
	case kind != KindSQLite:
		return StoreSpec{}, fmt.Errorf("the store %q is of no known kind: use sqlite:PATH", v)
	case rest == "":
		return StoreSpec{}, fmt.Errorf("the store %q has no path: write sqlite:pulse.db, for example", v)
	case rest == ":memory:":
		return StoreSpec{}, fmt.Errorf("the store %q would be empty each time: give the path of a file", v)
	case strings.HasPrefix(rest, "//"):
		return StoreSpec{}, fmt.Errorf("the store %q is no URL: write sqlite:PATH, with a path as you would give it to ls", v)
	case strings.ContainsRune(rest, 0):
		return StoreSpec{}, fmt.Errorf("the store %q has a NUL in its path", v)
	}
	return StoreSpec{Kind: KindSQLite, Path: rest}, nil
}

package app

import (
	"fmt"
	"strings"
)

// StoreSpec says which store to open.
type StoreSpec struct {
	Kind string // KindSQLite, KindPostgres or KindMemory
	// Path of the file, for KindSQLite. For KindPostgres the URL as it was given: it may hold a password, print the StoreSpec instead.
	Path string
}

// Kinds of stores.
const (
	KindSQLite   = "sqlite"
	KindPostgres = "postgres"
	KindMemory   = "memory"
)

// String is the form ParseStore reads, without passwords.
func (s StoreSpec) String() string {
	if s.Kind == KindPostgres {
		return redactURL(s.Path)
	}
	return s.Kind + ":" + s.Path
}

// ParseStore reads "sqlite:PATH", "memory:" or a URL of PostgreSQL. Its errors quote nothing that may hold a password.
func ParseStore(v string) (StoreSpec, error) {
	const kinds = "use sqlite:PATH or postgres://USER@HOST/DATABASE"
	kind, rest, found := strings.Cut(v, ":")
	switch {
	case kind == KindPostgres || kind == "postgresql":
		return parsePostgres(v)
	case kind == KindSQLite && found:
		return parseSQLite(v, rest)
	case strings.ContainsAny(v, "=@"): // a password may be in it
		return StoreSpec{}, fmt.Errorf("the store is of no known kind: %s", kinds)
	case v == "":
		return StoreSpec{}, fmt.Errorf("the store is empty: give one, such as sqlite:pulse.db")
	case !found:
		return StoreSpec{}, fmt.Errorf("the store %q does not say its kind: write sqlite:%s", v, v)
	case kind == KindMemory && rest == "":
		return StoreSpec{Kind: KindMemory}, nil
	case kind == KindMemory:
		return StoreSpec{}, fmt.Errorf("the store %q has something after memory: a store in memory has no name", v)
	}
	return StoreSpec{}, fmt.Errorf("the store %q is of no known kind: %s", v, kinds)
}

func parseSQLite(v, path string) (StoreSpec, error) {
	switch {
	case path == "":
		return StoreSpec{}, fmt.Errorf("the store %q has no path: write sqlite:pulse.db, for example", v)
	case path == ":memory:":
		return StoreSpec{}, fmt.Errorf("the store %q would be empty each time: give the path of a file", v)
	case strings.HasPrefix(path, "//"):
		return StoreSpec{}, fmt.Errorf("the store %q is no URL: write sqlite:PATH, with a path as you would give it to ls", v)
	case strings.ContainsRune(path, 0):
		return StoreSpec{}, fmt.Errorf("the store %q has a NUL in its path", v)
	}
	return StoreSpec{Kind: KindSQLite, Path: path}, nil
}

package app

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edupulse-live/pulse/pgstore"
)

// schemaParameter of a URL names the schema that the tables are in. PostgreSQL itself knows no such parameter.
const schemaParameter = "schema"

// secretParameters of a URL are not shown.
var secretParameters = []string{"password", "sslpassword"}

// parsePostgres reads a URL of PostgreSQL. Its errors quote nothing of it: where the password is in a URL that cannot be read is anybody's
// guess.
func parsePostgres(v string) (StoreSpec, error) {
	const form = "write postgres://USER@HOST:PORT/DATABASE"
	_, rest, found := strings.Cut(v, "://")
	if !found {
		return StoreSpec{}, fmt.Errorf("the store is no URL: %s", form)
	}
	if i := strings.IndexAny(rest, "@/?"); i >= 0 && rest[i] == '@' {
		rest = rest[i+1:]
	}
	if strings.ContainsAny(rest, "@#") {
		return StoreSpec{}, fmt.Errorf("the URL of the store has an @ or # too many: percent-encode what is special in the password, @ as %%40, / as %%2F")
	}
	spec := StoreSpec{Kind: KindPostgres, Path: v}
	if _, err := pgxpool.ParseConfig(spec.DSN()); err != nil {
		return StoreSpec{}, fmt.Errorf("the URL of the store cannot be read%s: %s, and percent-encode what is special in a password", reasonOfURL(err), form)
	}
	schema, err := spec.schema()
	if err == nil {
		_, err = pgstore.Migrations(&pgstore.Options{Schema: pgstore.Schema(schema)})
	}
	if err != nil {
		return StoreSpec{}, fmt.Errorf("%.80q is no name of a schema: use lower-case letters, digits and underscores, not beginning with pg_", schema)
	}
	return spec, nil
}

// reasonOfURL is what the client of PostgreSQL finds wrong with a URL, without the parts it quotes.
func reasonOfURL(err error) string {
	parse, ok := errors.AsType[*pgconn.ParseConfigError](err)
	if !ok {
		return ""
	}
	bare := *parse
	bare.ConnString = ""
	reason, _, _ := strings.Cut(strings.TrimPrefix(bare.Error(), "cannot parse ``: "), " (")
	return ", " + reason
}

// DSN is the URL without what only Pulse understands. It may hold a password.
func (s StoreSpec) DSN() string { return withoutParameters(s.Path, schemaParameter) }

// Schema is the PostgreSQL schema that the tables are in.
func (s StoreSpec) Schema() pgstore.Schema {
	name, _ := s.schema() // ParseStore has refused what cannot be read
	if name == "" {
		return pgstore.DefaultSchema
	}
	return pgstore.Schema(name)
}

func (s StoreSpec) schema() (string, error) {
	_, query, _ := strings.Cut(s.Path, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(pair, "="); key == schemaParameter {
			return url.QueryUnescape(value)
		}
	}
	return "", nil
}

// InSchema is the spec with a schema, unless it names one itself.
func (s StoreSpec) InSchema(name string) StoreSpec {
	if own, _ := s.schema(); own != "" {
		return s
	}
	return s.WithSchema(name)
}

// WithSchema is the spec with another schema.
func (s StoreSpec) WithSchema(name string) StoreSpec {
	s.Path = withoutParameters(s.Path, schemaParameter)
	separator := "?"
	if strings.Contains(s.Path, "?") {
		separator = "&"
	}
	s.Path += separator + schemaParameter + "=" + name
	return s
}

// redactURL takes the passwords out of a URL.
func redactURL(v string) string {
	scheme, rest, _ := strings.Cut(v, "://")
	if i := strings.IndexAny(rest, "@/?"); i >= 0 && rest[i] == '@' {
		user, _, _ := strings.Cut(rest[:i], ":")
		rest = user + rest[i:]
	}
	return scheme + "://" + withoutParameters(rest, secretParameters...)
}

// withoutParameters takes parameters out of the query of a URL and leaves the rest as it was written.
func withoutParameters(v string, names ...string) string {
	base, query, found := strings.Cut(v, "?")
	if !found {
		return v
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(key); err == nil {
			key = plain
		}
		drop := false
		for _, name := range names {
			drop = drop || key == name
		}
		if !drop {
			kept = append(kept, pair)
		}
	}
	if len(kept) == 0 {
		return base
	}
	return base + "?" + strings.Join(kept, "&")
}

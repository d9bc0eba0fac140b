package pulse

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// seen is what a handler behind HTTPContext finds in its context, and what the client gets back.
type seen struct{ correlation, trace, echoed string }

func through(t *testing.T, header http.Header) seen {
	t.Helper()
	var got seen
	calls := 0
	h := HTTPContext(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		calls++
		got.correlation, _ = CorrelationFrom(r.Context())
		got.trace, _ = TraceFrom(r.Context())
		if actor, ok := ActorFrom(r.Context()); ok {
			t.Errorf("the request named the actor %v", actor)
		}
	}))
	req := httptest.NewRequest(http.MethodPost, "/lessons", nil)
	req.Header = header
	res := httptest.NewRecorder()
	h.ServeHTTP(res, req)
	if calls != 1 {
		t.Fatalf("the handler was called %d times", calls)
	}
	if values := res.Header().Values(headerCorrelation); len(values) == 1 {
		got.echoed = values[0]
	}
	return got
}

const goodTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestHTTPContextTakesHeaders(t *testing.T) {
	for name, correlation := range map[string]string{
		"usual":   "req-1",
		"longest": strings.Repeat("x", maxText),
		"UTF-8":   "anfrage-ä",
	} {
		header := http.Header{}
		header.Set("x-correlation-id", correlation)
		header.Set("traceparent", goodTrace)
		if got, want := through(t, header), (seen{correlation, goodTrace, correlation}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestHTTPContextTrustsNoHeader(t *testing.T) {
	for name, values := range map[string][]string{
		"missing":     nil,
		"empty":       {""},
		"too long":    {strings.Repeat("x", maxText+1)},
		"line break":  {"a\r\nSet-Cookie: b"},
		"space":       {"a b"},
		"wildcard":    {"a.>"},
		"no UTF-8":    {"a\xff"},
		"there twice": {"a", "b"},
	} {
		got := through(t, http.Header{headerCorrelation: values})
		if id, err := uuid.Parse(got.correlation); err != nil || id.Version() != 7 {
			t.Errorf("%s: correlation %q, want a version 7 UUID", name, got.correlation)
		}
		if got.echoed != got.correlation {
			t.Errorf("%s: echoed %q, recorded %q", name, got.echoed, got.correlation)
		}
	}
	for name, values := range map[string][]string{
		"missing":     nil,
		"malformed":   {"00-abc-def-01"},
		"upper case":  {strings.ToUpper(goodTrace)},
		"control":     {"cc" + goodTrace[2:] + "-\n"},
		"there twice": {goodTrace, goodTrace},
	} {
		if got := through(t, http.Header{headerTrace: values}); got.trace != "" {
			t.Errorf("%s: trace %q, want none", name, got.trace)
		}
	}
}

func TestHTTPContextMakesOneIDForEachRequest(t *testing.T) {
	if a, b := through(t, http.Header{}), through(t, http.Header{}); a.correlation == b.correlation {
		t.Errorf("two requests share %q", a.correlation)
	}
}

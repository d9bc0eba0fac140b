package pulse

import (
	"net/http"

	"github.com/google/uuid"
)

// The headers of a request that HTTPContext reads.
const (
	headerCorrelation = "X-Correlation-Id"
	headerTrace       = "Traceparent"
)

// HTTPContext returns a handler that calls next with a context from which Emit takes correlation and trace: those of the
// request's X-Correlation-Id and traceparent headers. Headers come from anybody, so one that is malformed, too long or
// there twice counts as missing. A request without a correlation id gets a new one, a version 7 UUID. The response carries the id
// in X-Correlation-Id. The actor is not taken from the request: put it into the context where the user is authenticated,
// with WithActor.
func HTTPContext(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		correlation := only(r.Header[headerCorrelation])
		if correlation == "" || validateCorrelation(correlation) != nil {
			correlation = newCorrelation()
		}
		w.Header().Set(headerCorrelation, correlation)
		ctx := WithCorrelation(r.Context(), correlation)
		if trace := only(r.Header[headerTrace]); validateTrace(trace) == nil {
			ctx = WithTrace(ctx, trace)
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// only returns the one value there is, "" when there are none or several.
func only(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

func newCorrelation() string {
	id, err := uuid.NewV7()
	if err != nil {
		return "" // no randomness: Emit, which needs some too, will say so
	}
	return id.String()
}

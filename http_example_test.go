package pulse_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/edupulse-live/pulse"
	"github.com/google/uuid"
)

// Events emitted while a request is handled carry the request's correlation id and the user as actor.
func ExampleHTTPContext() {
	publish := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		user := uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11") // from your session
		ctx := pulse.WithActor(r.Context(), user)

		// bus.Emit(ctx, LessonPublished{…}) records both:
		correlation, _ := pulse.CorrelationFrom(ctx)
		actor, _ := pulse.ActorFrom(ctx)
		fmt.Println("correlation", correlation)
		fmt.Println("actor", actor)
	})

	request := httptest.NewRequest(http.MethodPost, "/lessons/7/publish", nil)
	request.Header.Set("X-Correlation-Id", "req-42")
	response := httptest.NewRecorder()
	pulse.HTTPContext(publish).ServeHTTP(response, request)
	fmt.Println("answered", response.Header().Get("X-Correlation-Id"))

	// Output:
	// correlation req-42
	// actor 018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11
	// answered req-42
}

package pulse

import (
	"context"
	"testing"

	"github.com/google/uuid"
)

func TestContextCarriesWhatEmitRecords(t *testing.T) {
	actor := uuid.New()
	ctx := WithTrace(WithCorrelation(WithActor(context.Background(), actor), "req-1"), "trace-1")
	if got, ok := ActorFrom(ctx); got != actor || !ok {
		t.Errorf("actor %v, %v", got, ok)
	}
	if got, ok := CorrelationFrom(ctx); got != "req-1" || !ok {
		t.Errorf("correlation %q, %v", got, ok)
	}
	if got, ok := TraceFrom(ctx); got != "trace-1" || !ok {
		t.Errorf("trace %q, %v", got, ok)
	}

	inner := WithActor(ctx, uuid.Nil)
	inner = WithTrace(WithCorrelation(inner, ""), "")
	for name, ctx := range map[string]context.Context{"empty": context.Background(), "cleared": inner} {
		if got, ok := ActorFrom(ctx); got != uuid.Nil || ok {
			t.Errorf("%s context: actor %v, %v", name, got, ok)
		}
		if got, ok := CorrelationFrom(ctx); got != "" || ok {
			t.Errorf("%s context: correlation %q, %v", name, got, ok)
		}
		if got, ok := TraceFrom(ctx); got != "" || ok {
			t.Errorf("%s context: trace %q, %v", name, got, ok)
		}
	}
	if got, _ := CorrelationFrom(ctx); got != "req-1" {
		t.Errorf("the outer context changed to %q", got)
	}
}

package pulse

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// stop pauses the subscription until a person resumes it, because its cursor or its destination does not match the log. The others go on.
func (r *runner) stop(ctx context.Context, why error) {
	r.bus.log.Error("pulse: a subscription stopped until a person resumes it", "subscription", r.sub.name, "error", why)
	reason := why.Error()
	if !strings.HasPrefix(reason, ErrDiverged.Error()) {
		reason = ErrDiverged.Error() + ": " + reason
	}
	stopping, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := r.change(stopping, func(s *SubscriptionState) *Control {
		if s.PausedUntil.Equal(Forever) {
			return nil
		}
		return &Control{Pause: &Pause{Until: Forever, Reason: reason}}
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		r.sleep(ctx, troubled) // it finds the same again
	}
}

// diverged is why a subscription was stopped until a person resumes it, an ErrDiverged; nil when it was not.
func diverged(s *SubscriptionState) error {
	why, ok := strings.CutPrefix(s.PauseReason, ErrDiverged.Error())
	if !ok || !s.PausedUntil.Equal(Forever) {
		return nil
	}
	return fmt.Errorf("subscription %q: %w%s", s.Name, ErrDiverged, why)
}

// allDiverged reports whether no subscription of the bus goes on before a person resumes it.
func (b *Bus) allDiverged() bool {
	for _, r := range b.runners {
		if r.diverged.Load() == nil {
			return false
		}
	}
	return len(b.runners) > 0
}

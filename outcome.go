package pulse

import (
	"errors"
	"fmt"
	"time"
)

// A handler's answer is its error: nil means handled, and a plain error means "try again later". The functions here
// make the other answers; they are found also when wrapped.

// RetryAfter asks for the next attempt after d, in place of the subscription's backoff. The attempt counts.
func RetryAfter(d time.Duration) error { return &retryAfter{d} }

// Park gives up at once: the delivery becomes a dead letter. For what no further attempt can mend.
func Park(why string) error { return &parked{why} }

// Unavailable says that nothing is wrong with the event but that what the handler needs is down: the subscription
// pauses for a while and the attempt is not counted.
func Unavailable(cause error) error { return &unavailable{cause} }

type retryAfter struct{ d time.Duration }

func (e *retryAfter) Error() string { return fmt.Sprintf("try again after %s", e.d) }

type parked struct{ why string }

func (e *parked) Error() string { return "parked: " + e.why }

type unavailable struct{ cause error }

func (e *unavailable) Error() string { return fmt.Sprintf("unavailable: %v", e.cause) }
func (e *unavailable) Unwrap() error { return e.cause }

func isUnavailable(err error) bool {
	_, ok := errors.AsType[*unavailable](err)
	return ok
}

// RetryPolicy says how often and when a failing delivery is tried again. The zero value of a field means its default.
type RetryPolicy struct {
	Attempts int           // attempts in all, the first included; default 10. Then it is a dead letter
	First    time.Duration // wait after the first failure, doubled after each further one; default 1 second
	Max      time.Duration // longest wait, not below First; default 15 minutes, or First if that is longer
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts == 0 {
		p.Attempts = 10
	}
	if p.First == 0 {
		p.First = time.Second
	}
	if p.Max == 0 {
		p.Max = max(15*time.Minute, p.First)
	}
	return p
}

func (p RetryPolicy) validate() error {
	if p.Attempts < 1 || p.First < 0 || p.Max < p.First {
		return fmt.Errorf("%w: retry policy %+v: attempts must be at least 1, waits not negative and Max not below First", ErrInvalid, p)
	}
	return nil
}

// backoff is the wait after attempt n failed, from 1. jitter is in [0, 1): it spreads the wait over its upper half,
// so that deliveries that failed together do not come back together.
func (p RetryPolicy) backoff(n int, jitter float64) time.Duration {
	wait := p.Max
	if shift := n - 1; shift < 32 && p.First<<shift>>shift == p.First {
		wait = min(p.First<<shift, p.Max)
	}
	return wait/2 + time.Duration(float64(wait/2)*jitter)
}

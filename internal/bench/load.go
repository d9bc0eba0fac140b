package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edupulse-live/pulse"
)

// submitted is the event of the measurements, about 300 bytes of JSON.
type submitted struct {
	Student string `json:"student" pulse:"key"`
	Quiz    string `json:"quiz"`
	Score   int    `json:"score"`
	Answers string `json:"answers"`
	At      int64  `json:"at"` // when it was emitted, nanoseconds
}

func (submitted) EventName() string { return "quiz.submitted" }

func newSubmitted(caller, n int) submitted {
	return submitted{
		Student: fmt.Sprintf("student-%05d", caller),
		Quiz:    "0190a1b2-0000-7000-8000-000000000001",
		Score:   n % 100,
		Answers: answers,
		At:      time.Now().UnixNano(),
	}
}

// answers fills the payload up to its size.
const answers = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz" +
	"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzab"

// load emits with callers that each wait for their event, until done says so or ctx ends, and returns how many there were.
func load(ctx context.Context, bus *pulse.Bus, callers int, done func(emitted int64) bool) (emitted int64, took time.Duration, err error) {
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	begin := time.Now()
	for caller := range callers {
		wg.Go(func() {
			for n := 0; failed.Load() == nil && !done(count.Load()); n++ {
				if _, err := bus.Emit(ctx, newSubmitted(caller, n)); err != nil {
					failed.Store(&err)
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	if p := failed.Load(); p != nil {
		return 0, 0, *p
	}
	return count.Load(), time.Since(begin), nil
}

// forDuration is done after d.
func forDuration(d time.Duration) func(int64) bool {
	end := time.Now().Add(d)
	return func(int64) bool { return !time.Now().Before(end) }
}

// perSecond is a rate.
func perSecond(n int64, took time.Duration) float64 { return float64(n) / took.Seconds() }

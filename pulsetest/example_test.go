package pulsetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/pulsetest"
)

// submit is code under test: it needs only the port.
func submit(ctx context.Context, to pulse.Emitter, quiz string) error {
	if _, err := to.Emit(ctx, quizSubmitted{Quiz: quiz}); err != nil {
		return fmt.Errorf("quiz %s was not submitted: %w", quiz, err)
	}
	return nil
}

func ExampleRecorder() {
	var rec pulsetest.Recorder
	if err := submit(context.Background(), &rec, "algebra"); err != nil {
		fmt.Println(err)
	}
	fmt.Println(rec.Events())

	broken := pulsetest.Recorder{Err: errors.New("no space left")}
	fmt.Println(submit(context.Background(), &broken, "algebra"))
	// Output:
	// [{algebra}]
	// quiz algebra was not submitted: no space left
}

func ExampleRequireEmitted() {
	_ = func(t *testing.T) { // TestSubmit
		bus := pulsetest.New(t)
		if err := submit(t.Context(), bus, "algebra"); err != nil {
			t.Fatal(err)
		}
		pulsetest.RequireEmitted(t, bus, quizSubmitted{Quiz: "algebra"})
	}
}

func ExampleDrain() {
	_ = func(t *testing.T) { // TestGrading
		bus := pulsetest.New(t)
		grades := 0
		err := bus.Subscribe("grader", pulse.On(func(context.Context, quizSubmitted) error {
			grades++
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := submit(t.Context(), bus, "algebra"); err != nil {
			t.Fatal(err)
		}
		pulsetest.Drain(t, bus)
		if grades != 1 {
			t.Errorf("graded %d times", grades)
		}
	}
}

package cloudevents_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/google/uuid"
)

func ExampleMarshal() {
	line, err := cloudevents.Marshal(pulse.Envelope{
		ID:         uuid.MustParse("018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11"),
		Name:       "lesson.published",
		Version:    1,
		Source:     "/school",
		OccurredAt: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Key:        "lesson-7",
		Data:       json.RawMessage(`{"title":"Fractions"}`),
	})
	fmt.Println(string(line), err)
	// Output:
	// {"specversion":"1.0","id":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11","source":"/school","type":"lesson.published","subject":"lesson-7","time":"2026-03-04T05:06:07.000000Z","dataversion":1,"datacontenttype":"application/json","data":{"title":"Fractions"}} <nil>
}

func ExampleUnmarshal() {
	env, err := cloudevents.Unmarshal([]byte(`{
		"specversion": "1.0", "id": "A-1", "source": "/lms", "type": "course.created", "priority": 5,
		"data": {"title": "Algebra"}
	}`))
	fmt.Println(env.Name, env.ID, err)
	fmt.Println(string(env.Extensions))
	fmt.Println(string(env.Data))
	// Output:
	// course.created 06192703-77f5-51bd-b45b-9da7607237b4 <nil>
	// {"ceid":"A-1","priority":5}
	// {"title": "Algebra"}
}

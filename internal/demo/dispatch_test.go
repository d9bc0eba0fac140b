package demo

import (
	"runtime"
	"sync"
	"testing"
)

// planOf is a plan of events with these keys, in this order.
func planOf(students int, keys []int) *plan {
	p := &plan{students: make([]int32, students)}
	for _, k := range keys {
		p.events = append(p.events, planned{who: int32(k)})
	}
	return p
}

func TestDispatcherHandsOutInOrderAndKeepsKeysApart(t *testing.T) {
	//                           0  1  2  3  4  5
	d := newDispatcher(planOf(3, []int{0, 0, 1, 0, 1, 2}))
	take := func(want int) {
		t.Helper()
		if i, ok := d.take(); !ok || i != want {
			t.Fatalf("take is %d, %t, want %d", i, ok, want)
		}
	}
	done := func(event, want int) {
		t.Helper()
		if i, ok := d.done(event); !ok || i != want {
			t.Fatalf("after %d comes %d, %t, want %d", event, i, ok, want)
		}
	}
	take(0)
	take(2) // 1 waits for 0
	take(5) // 3 and 4 wait too
	if i, ok := d.take(); ok {
		t.Fatalf("%d was handed out beside an event of its key", i)
	}
	done(2, 4)
	done(0, 1)
	done(1, 3)
	for _, last := range []int{3, 4, 5} {
		if i, ok := d.done(last); ok {
			t.Fatalf("%d was handed out once more", i)
		}
	}
}

func TestDispatcherUnderManyEmitters(t *testing.T) {
	const students, events, emitters = 50, 20_000, 32
	keys := make([]int, events)
	for i := range keys {
		keys[i] = i * i % students % (1 + i%students) // some keys are much busier than others
	}
	p := planOf(students, keys)
	d := newDispatcher(p)
	var (
		mu     sync.Mutex
		latest = make([]int, students)
		inside = make([]bool, students)
		count  int
	)
	begin := func(i int) {
		mu.Lock()
		defer mu.Unlock()
		k := keys[i]
		if inside[k] {
			t.Errorf("two events of key %d at the same time", k)
		}
		if i < latest[k] {
			t.Errorf("event %d of key %d after %d", i, k, latest[k])
		}
		inside[k], latest[k] = true, i
		count++
	}
	var all sync.WaitGroup
	for range emitters {
		all.Go(func() {
			for i, ok := d.take(); ok; i, ok = d.done(i) {
				begin(i)
				runtime.Gosched()
				mu.Lock()
				inside[keys[i]] = false
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if count != events {
		t.Errorf("%d events handed out of %d", count, events)
	}
}

// Package simulation holds a test that lives through thousands of bad days: random schedules of emitters, instances of a
// bus, handlers and operators over one store in memory, in virtual time, while writes fail before or after they were done,
// processes are killed, frozen past their lease and restarted, handlers fail, panic, hang and kill their process. Then
// everything heals and drains, and checkers that know nothing of the bus's insides compare what happened with what is promised.
//
// In more than half of the schedules two or three processes also compete to be the relay to one broker, and most subscriptions are
// fed from there. Messages are dropped, doubled, late, refused until a person has settled it, and their answers lost; the
// broker is down, delivers again, loses everything or its newest messages; relays die and freeze between two messages; a
// person pauses the relay, settles what it parked and publishes again. Brokers are of three kinds: one that fences, which alone is
// asked to lose anything, as a relay can notice it there; one that can tell its last message; and one that can tell nothing.
//
//	go test ./internal/simulation -run TestSimulation
//
// PULSE_SIM_SCHEDULES is the number of schedules, PULSE_SIM_SEED runs one again. Every actor has a random source of its own, derived
// from the seed of the schedule. Which of two goroutines goes first at one instant is left to the Go scheduler, so that a seed is
// run several times when it is asked for by name.
package simulation

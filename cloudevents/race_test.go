//go:build race

package cloudevents

// poolsForget says that the race detector is on, under which pools forget some of what they are given.
const poolsForget = true

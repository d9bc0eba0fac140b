// Package demo plays a learning platform on Pulse, in two ways. Both publish to a broker, from which the events are handled, or
// handle them from the log.
//
// Live plays a small one with stand-in side effects at a rate that people can follow: something to look at
// on an empty machine.
//
// Year replays the Open University Learning Analytics dataset, a real year of a large one, through one transactional
// subscription, and counts afterwards, without asking the bus, what was lost, doubled or reordered. It may be killed at any moment and
// started again.
package demo

//go:build unix && !race

package guarantee

// underRace tells that the race detector is on.
const underRace = false

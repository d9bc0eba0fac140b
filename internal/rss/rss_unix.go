//go:build unix && !linux

package rss

import (
	"runtime"
	"syscall"
)

// Now returns the resident memory in bytes, or what comes closest.
func Now() int64 { return mapped() }

// Peak returns the largest resident memory so far, in bytes.
func Peak() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return mapped()
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(u.Maxrss) // counted in bytes there
	}
	return int64(u.Maxrss) << 10
}

package rss

import (
	"bytes"
	"os"
	"strconv"
)

// Now returns the resident memory in bytes.
func Now() int64 { return status("VmRSS:") }

// Peak returns the largest resident memory so far, in bytes. getrusage would count what the process that started this one
// occupied too.
func Peak() int64 { return status("VmHWM:") }

// status reads a field of /proc/self/status, which is in KiB.
func status(field string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return mapped()
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(field)); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				if kib, err := strconv.ParseInt(string(f[0]), 10, 64); err == nil {
					return kib << 10
				}
			}
		}
	}
	return mapped()
}

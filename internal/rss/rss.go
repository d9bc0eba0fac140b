// Package rss tells how much memory this process occupies, as the operating system counts it: the database's own
// memory is in it, which the Go runtime does not know.
package rss

import "runtime/metrics"

const mib = 1 << 20

// MiB converts bytes.
func MiB(bytes int64) float64 { return float64(bytes) / mib }

// mapped is what the Go runtime holds of the system's memory, where the system itself cannot be asked.
func mapped() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}

//go:build !unix

package rss

// Now returns the resident memory in bytes, or what comes closest.
func Now() int64 { return mapped() }

// Peak returns the largest resident memory so far, or what comes closest.
func Peak() int64 { return mapped() }

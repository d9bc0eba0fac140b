//go:build !linux && !darwin

package app

// freeSpace returns the bytes that this process may still write to the file system of a directory; ok is false when it is not known.
func freeSpace(string) (free uint64, ok bool) { return 0, false }

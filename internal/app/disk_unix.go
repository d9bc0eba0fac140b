//go:build linux || darwin

package app

import "golang.org/x/sys/unix"

// freeSpace returns the bytes that this process may still write to the file system of a directory; ok is false when it is not known.
func freeSpace(dir string) (free uint64, ok bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true
}

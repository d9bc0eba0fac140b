//go:build unix

package bench

import "golang.org/x/sys/unix"

// settle waits until the disk has what sections before this one left in memory: it would get in the way of every sync.
func settle() { unix.Sync() }

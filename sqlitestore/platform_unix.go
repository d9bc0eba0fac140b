//go:build unix

package sqlitestore

import (
	"errors"
	"syscall"
)

// writable returns an error when this process may not write to a file or directory. It does not open it.
func writable(path string) error {
	const writeOK = 2 // W_OK of access(2)
	return syscall.Access(path, writeOK)
}

// processGone reports that no process of this machine has the id pid.
func processGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

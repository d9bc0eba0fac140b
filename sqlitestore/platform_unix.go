//go:build unix

package sqlitestore

import (
	"errors"
	"syscall"
)

// isReadOnly tells that the whole file system is mounted read-only.
func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// processGone reports that no process of this machine has the id pid.
func processGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

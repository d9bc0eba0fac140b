//go:build unix

package natsbroker

import (
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"

	"github.com/edupulse-live/pulse"
)

// lock takes a file for this process until unlock is called or the process ends.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another server uses the directory: stop it, or connect to it", pulse.ErrHeld)
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// freeDisk is how many bytes can be written where dir is; 0 when that is not known.
func freeDisk(dir string) int64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil || s.Bsize <= 0 || s.Bavail > math.MaxInt64/uint64(s.Bsize) {
		return 0
	}
	return int64(s.Bavail) * int64(s.Bsize)
}

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTicks is in what part of a second Linux counts the time of processes for /proc, on every architecture Go runs on.
const clockTicks = 100

// cpu is the processor time that this process and the server with all its backends have used since they began.
func (p *postgres) cpu() (time.Duration, error) {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	sum := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	server := p.process.Process.Pid
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended, and is in what its parent waited for
		}
		if err != nil {
			return 0, err
		}
		_, after, ok := strings.Cut(string(text), ") ") // the name may hold anything
		fields := strings.Fields(after)
		if !ok || len(fields) < 15 {
			continue
		}
		const parent, user, system, childrenUser, childrenSystem = 1, 11, 12, 13, 14
		switch strconv.Itoa(server) {
		case fields[parent]:
			sum += ticks(fields[user]) + ticks(fields[system])
		case filepath.Base(filepath.Dir(file)):
			sum += ticks(fields[user]) + ticks(fields[system]) + ticks(fields[childrenUser]) + ticks(fields[childrenSystem])
		}
	}
	return sum, nil
}

func ticks(field string) time.Duration {
	n, _ := strconv.ParseInt(field, 10, 64)
	return time.Duration(n) * time.Second / clockTicks
}

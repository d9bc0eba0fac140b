package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// Exit codes, a promise to scripts; see `pulse help exit-codes`.
const (
	exitOK         = 0
	exitFailure    = 1
	exitUsage      = 2
	exitNotFound   = 3
	exitConflict   = 4
	exitSignalBase = 128 // and the number of the signal
)

// exitError is an error with an exit code of its own choice.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usagef is an error in how the command was called.
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// notFoundf says that what was asked for does not exist.
func notFoundf(format string, args ...any) error {
	return &exitError{code: exitNotFound, err: fmt.Errorf(format, args...)}
}

// failuref is an error that is neither of the others.
func failuref(format string, args ...any) error {
	return &exitError{code: exitFailure, err: fmt.Errorf(format, args...)}
}

// exitCode maps an error to the exit code of the process. ctx is the one the command ran with.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && (errors.Is(err, context.Canceled) || errors.Is(err, s)) {
		return exitSignalBase + s.number()
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*net.OpError](err); ok { // even of a socket whose file is not there
		return exitFailure
	}
	switch {
	case errors.Is(err, app.ErrConfig), errors.Is(err, pulse.ErrInvalid), errors.Is(err, pulse.ErrSerialization), errors.Is(err, pulse.ErrTooLarge):
		return exitUsage
	case errors.Is(err, app.ErrNoStore), errors.Is(err, pulse.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	case errors.Is(err, pulse.ErrConflict):
		return exitConflict
	}
	return exitFailure
}

//go:build !linux

package sqlitestore_test

import "errors"

func childWithLimitedFile([]string) error { return errors.ErrUnsupported }

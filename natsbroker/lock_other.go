//go:build !unix

package natsbroker

// lock does nothing: here nobody keeps two processes from using one directory.
func lock(string) (unlock func(), err error) { return func() {}, nil }

// freeDisk is not known here.
func freeDisk(string) int64 { return 0 }

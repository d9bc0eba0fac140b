//go:build !unix

package sqlitestore

// isReadOnly cannot tell on this system.
func isReadOnly(error) bool { return false }

// processGone cannot tell on this system: leases of ended processes run out.
func processGone(int) bool { return false }

//go:build !unix

package bench

// settle does nothing: there is no way to wait for the disk.
func settle() {}

package main

import "os"

// The program works in an empty directory, and again on the store and the stream it left.
func Example() {
	home, err := os.Getwd()
	check(err)
	dir, err := os.MkdirTemp("", "pulse-publish-")
	check(err)
	defer os.RemoveAll(dir)
	defer os.Chdir(home)
	check(os.Chdir(dir))
	main()
	main()
	// Output:
	// mail: a new lesson, Algebra I
	// mail: a new lesson, Algebra I
}

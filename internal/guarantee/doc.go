// Package guarantee holds the tests of what Pulse promises, one file for each promise, by its number in docs. It has no code of
// its own.
//
// Where a promise speaks of crashes, a child process is really killed: the test binary starts itself again. What
// happened is told by the child through a pipe, line by line, and by what is found in the store afterwards. Each
// test says how much it did, and fails when that was too little to prove anything.
package guarantee

// Package rabbittest gives tests a RabbitMQ server: one that the tests of a package share, each with names of its own there, or one of
// their own that they may stop. Only tests import it, and the command that measures brokers in integration.
package rabbittest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Patience is how long a test waits for what must happen.
const Patience = 60 * time.Second

// Users of every server. User may do all in the virtual hosts "/" and "school", Stranger may log in and nothing else.
const (
	User     = "school"
	Stranger = "stranger"
	Password = "chalk"
	VHost    = "school" // beside "/"
)

// Shared is the server of all tests of a package that do no harm to it. It starts when it is first asked for. The zero value is
// ready; Main stops it.
type Shared struct {
	once   sync.Once
	err    error
	server *Server
	names  atomic.Int64
}

// Main wraps the tests of a package, for goleak.VerifyTestMain: the server is stopped after they ran.
func (s *Shared) Main(m interface{ Run() int }) Stopping { return Stopping{m, s} }

// Stopping runs tests and stops the server they shared.
type Stopping struct {
	tests  interface{ Run() int }
	shared *Shared
}

// Run returns the exit code.
func (s Stopping) Run() int {
	code := s.tests.Run()
	if s.shared.server == nil {
		return code
	}
	if err := s.shared.server.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, "the test server:", err)
		return max(code, 1)
	}
	return code
}

// Server returns the server.
func (s *Shared) Server(t testing.TB) *Server {
	t.Helper()
	s.once.Do(func() { s.server, s.err = Start() })
	if s.err != nil {
		t.Fatalf("no RabbitMQ to test with, run scripts/setup.sh: %v", s.err)
	}
	return s.server
}

// Name is one that no other test has, for an exchange.
func (s *Shared) Name() string { return fmt.Sprint("t", s.names.Add(1)) }

// New starts a server for one test, which removes it in the end. extra are lines of rabbitmq.conf.
func New(t testing.TB, extra ...string) *Server {
	t.Helper()
	s, err := Start(extra...)
	if err != nil {
		t.Fatalf("no RabbitMQ to test with, run scripts/setup.sh: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// binaries finds the directory of RabbitMQ's programs. Debian has wrappers in /usr/sbin, which want to be another user, and the programs
// themselves beside its library.
func binaries() (string, error) {
	const debian = "/usr/lib/rabbitmq/bin"
	if _, err := os.Stat(filepath.Join(debian, "rabbitmq-server")); err == nil {
		return debian, nil
	}
	found, err := exec.LookPath("rabbitmq-server")
	return filepath.Dir(found), err
}

// output is what a program said, for an error.
func output(b []byte) string { return strings.TrimSpace(string(b)) }

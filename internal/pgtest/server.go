package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a PostgreSQL server of a test's own, on a port and in a directory of its own.
type Server struct {
	bin, dir   string
	port       int
	credential *syscall.Credential // nil: that of this process
	process    *exec.Cmd
	exited     chan struct{}
}

// Start makes a cluster and starts a server on it. extra are settings, as name=value. The caller removes it.
func Start(extra ...string) (*Server, error) {
	s := &Server{}
	var err error
	if s.bin, err = binaries(); err != nil {
		return nil, err
	}
	if s.credential, err = unprivileged(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "pulse-postgres-"); err != nil {
		return nil, err
	}
	if s.credential != nil {
		if err := os.Chown(s.dir, int(s.credential.Uid), int(s.credential.Gid)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
	}
	initdb := s.Command("initdb", "-D", s.Data(), "-U", "pulse", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(s.dir))
	}
	if s.port, err = freePort(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.start(extra...); err != nil {
		return nil, errors.Join(err, s.Remove())
	}
	return s, nil
}

// New is Start for one test, which removes the server in the end.
func New(t testing.TB, extra ...string) *Server {
	t.Helper()
	s, err := Start(extra...)
	if err != nil {
		t.Fatalf("no PostgreSQL to test with, run scripts/setup.sh: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Standby starts a standby of the server, which follows it until it is promoted. The caller removes it.
func (s *Server) Standby() (*Server, error) {
	b := &Server{bin: s.bin, credential: s.credential}
	var err error
	if b.dir, err = os.MkdirTemp("", "pulse-postgres-"); err != nil {
		return nil, err
	}
	if b.credential != nil {
		if err := os.Chown(b.dir, int(b.credential.Uid), int(b.credential.Gid)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(b.dir))
		}
	}
	backup := b.Command("pg_basebackup", "-D", b.Data(), "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d",
		fmt.Sprintf("host=127.0.0.1 port=%d user=pulse", s.port))
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("pg_basebackup: %w: %s", err, out), os.RemoveAll(b.dir))
	}
	if b.port, err = freePort(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	if err := b.start(); err != nil {
		return nil, errors.Join(err, b.Remove())
	}
	return b, nil
}

// Data is the directory of the cluster.
func (s *Server) Data() string { return filepath.Join(s.dir, "data") }

// DSN is that of the database postgres, in key=value form; the user is a superuser.
func (s *Server) DSN() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=pulse dbname=postgres sslmode=disable", s.port)
}

// Command is one of PostgreSQL's programs, run as the server is. It ends when this process does.
func (s *Server) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// Signal sends a signal to the server and waits for its end.
func (s *Server) Signal(sig os.Signal) error {
	if err := s.process.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(Patience):
		return fmt.Errorf("the server did not end on %s", sig)
	}
}

// Restart starts the server anew once its last processes have ended. extra are settings, as for Start.
func (s *Server) Restart(extra ...string) (err error) {
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = s.start(extra...); err == nil {
			return nil
		}
	}
	return err
}

// Remove stops the server and takes its directory away.
func (s *Server) Remove() error {
	var err error
	if s.process != nil && s.process.Process != nil {
		err = s.Signal(syscall.SIGQUIT)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// start starts the server and waits until it answers. It does not sync unless a setting says so: killed processes lose nothing by that.
func (s *Server) start(extra ...string) error {
	args := []string{"-D", s.Data(), "-p", strconv.Itoa(s.port)}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=" + s.dir, "max_connections=300", "shared_buffers=128MB",
		"fsync=off", "logging_collector=off", "log_min_messages=fatal", "max_prepared_transactions=520",
	}, extra...) {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.process = s.Command("postgres", args...)
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func() {
		_ = s.process.Wait()
		close(s.exited)
	}()
	return s.await()
}

func (s *Server) await() error {
	var last error
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, s.DSN())
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		last = err
		select {
		case <-s.exited:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server ended: %s", text)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("the server does not answer: %w", last)
}

// unprivileged returns whom to run the server as: PostgreSQL refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
	}
	return nil, errors.New("there is neither a user postgres nor a user nobody to run the server as")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

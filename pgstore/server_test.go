package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// serverVariable names a PostgreSQL server the tests may create databases on, as a DSN. Without it they start their own.
const serverVariable = "PULSE_POSTGRES"

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(served{m}) }

// served runs tests and stops the server they shared, before leaks are looked for.
type served struct{ *testing.M }

func (s served) Run() int {
	code := s.M.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "the test server:", err)
		return max(code, 1)
	}
	return code
}

// shared is the server of all tests that do no harm to it.
var shared = &sharedServer{}

// sharedServer starts when it is first asked for.
type sharedServer struct {
	once   sync.Once
	dsn    string // of a database to connect to for creating others
	err    error
	server *server // nil when the server is not ours

	mu      sync.Mutex
	created int
}

func (s *sharedServer) start() (string, error) {
	s.once.Do(func() {
		if s.dsn = os.Getenv(serverVariable); s.dsn != "" {
			return
		}
		if s.server, s.err = startServer(); s.err == nil {
			s.dsn = s.server.dsn()
		}
	})
	return s.dsn, s.err
}

func (s *sharedServer) stop() error {
	if s.server == nil {
		return nil
	}
	return s.server.remove()
}

// newDatabase creates a database that goes when the test ends, and returns its DSN.
func newDatabase(t testing.TB) string {
	t.Helper()
	dsn, err := shared.start()
	if err != nil {
		t.Fatalf("no PostgreSQL to test with, run scripts/setup.sh or set %s: %v", serverVariable, err)
	}
	shared.mu.Lock()
	shared.created++
	name := fmt.Sprintf("pulse_test_%d_%d", os.Getpid(), shared.created)
	shared.mu.Unlock()
	administer(t, dsn, "CREATE DATABASE "+name)
	t.Cleanup(func() { administer(t, dsn, "DROP DATABASE "+name+" WITH (FORCE)") })
	return onDatabase(t, dsn, name)
}

// onDatabase is dsn with another database.
func onDatabase(t testing.TB, dsn, name string) string {
	t.Helper()
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s sslmode=disable", c.Host, c.Port, c.User, c.Password, name)
}

func portOf(c *pgx.ConnConfig) string { return strconv.Itoa(int(c.Port)) }

func administer(t testing.TB, dsn, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// server is a PostgreSQL server of our own, on a port and in a directory of its own.
type server struct {
	bin, dir   string
	port       int
	credential *syscall.Credential // nil: that of this process
	process    *exec.Cmd
	exited     chan struct{}
}

// startServer makes a cluster and starts a server on it. extra are settings, as name=value.
func startServer(extra ...string) (*server, error) {
	s := &server{}
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
	initdb := s.command("initdb", "-D", s.data(), "-U", "pulse", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(s.dir))
	}
	if s.port, err = freePort(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.start(extra...); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// binaries finds the directory of PostgreSQL's programs, the newest version where Debian keeps several.
func binaries() (string, error) {
	if dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(dirs) > 0 {
		slices.Sort(dirs)
		return filepath.Dir(dirs[len(dirs)-1]), nil
	}
	found, err := exec.LookPath("postgres")
	return filepath.Dir(found), err
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

func (s *server) data() string { return filepath.Join(s.dir, "data") }

func (s *server) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=pulse dbname=postgres sslmode=disable", s.port)
}

func (s *server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// start starts the server and waits until it answers. It does not sync unless a setting says so: killed processes lose nothing by that.
func (s *server) start(extra ...string) error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port)}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=" + s.dir, "max_connections=300", "shared_buffers=128MB",
		"fsync=off", "logging_collector=off", "log_min_messages=fatal", "max_prepared_transactions=4",
	}, extra...) {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.process = s.command("postgres", args...)
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

func (s *server) await() error {
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, s.dsn())
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

// signal sends a signal to the server and waits for its end.
func (s *server) signal(sig os.Signal) error {
	if err := s.process.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the server did not end on %s", sig)
	}
}

// remove stops the server and takes its directory away.
func (s *server) remove() error {
	var err error
	if s.process != nil && s.process.Process != nil {
		err = s.signal(syscall.SIGQUIT)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

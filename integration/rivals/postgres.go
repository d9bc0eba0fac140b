package main

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
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long the server may take to start and to end.
const patience = 30 * time.Second

// postgres is a PostgreSQL server of our own, on a port and in a directory of its own.
type postgres struct {
	bin, dir   string
	port       int
	credential *syscall.Credential // nil: that of this process
	process    *exec.Cmd
	exited     chan struct{}
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

// startPostgres makes a cluster in dir and starts a server on it, which listens on the loopback interface only.
func startPostgres(ctx context.Context, dir string, synced bool) (*postgres, error) {
	p := &postgres{dir: dir, exited: make(chan struct{})}
	var err error
	if p.bin, err = binaries(); err != nil {
		return nil, fmt.Errorf("PostgreSQL is not installed: %w", err)
	}
	if p.credential, err = unprivileged(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if p.credential != nil {
		if err := os.Chown(dir, int(p.credential.Uid), int(p.credential.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := p.command("initdb", "-D", p.data(), "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if p.port, err = freePort(); err != nil {
		return nil, err
	}
	return p, p.start(ctx, synced)
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

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) dsn(database string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=bench dbname=%s sslmode=disable", p.port, database)
}

func (p *postgres) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, program), args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// start starts the server and waits until it answers. Every commit is synced if synced, as by default; checkpoints are made between the measurements.
func (p *postgres) start(ctx context.Context, synced bool) error {
	args := []string{"-D", p.data(), "-p", strconv.Itoa(p.port)}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=" + p.dir, "logging_collector=off", "log_min_messages=fatal",
		"max_connections=400", "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=30min", "fsync=" + strconv.FormatBool(synced),
	} {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.process = p.command("postgres", args...)
	p.process.Stdout, p.process.Stderr = log, log
	if err := p.process.Start(); err != nil {
		return err
	}
	go func() {
		_ = p.process.Wait()
		close(p.exited)
	}()
	return p.await(ctx)
}

func (p *postgres) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := p.administer(ctx, "postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			return fmt.Errorf("PostgreSQL ended: %s", text)
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// administer carries out statements, one after the other.
func (p *postgres) administer(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, p.dsn(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// stop ends the server.
func (p *postgres) stop() error {
	if p.process == nil || p.process.Process == nil {
		return nil
	}
	if err := p.process.Process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(patience):
		return errors.New("PostgreSQL did not end")
	}
}

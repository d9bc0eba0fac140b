package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bouncer starts a pgbouncer in transaction mode before the server that dsn is on, which ends with the test. It returns a function that
// turns a DSN of a database there into one through the pooler, whose connections keep nothing of one transaction for the next.
func Bouncer(t testing.TB, dsn string) (through func(dsn string) string) {
	t.Helper()
	c := parse(t, dsn)
	program, err := pooler()
	if err != nil {
		t.Fatalf("no pgbouncer to test with, run scripts/setup.sh: %v", err)
	}
	credential, err := unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pulse-pgbouncer-") // that of t is for its own user only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	config := filepath.Join(dir, "pgbouncer.ini")
	password := ""
	if c.Password != "" {
		password = " password='" + c.Password + "'"
	}
	text := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 1000
log_connections = 0
log_disconnections = 0
`, c.Host, c.Port, c.User, password, port)
	err = errors.Join(os.WriteFile(config, []byte(text), 0o644), os.Chmod(dir, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, config)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	through = func(dsn string) string {
		return fmt.Sprintf("host=127.0.0.1 port=%s user=%s dbname=%s sslmode=disable default_query_exec_mode=exec", strconv.Itoa(port), c.User, parse(t, dsn).Database)
	}
	awaitBouncer(t, through(dsn), log.Name())
	return through
}

func awaitBouncer(t testing.TB, dsn, log string) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			err = conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log)
			t.Fatalf("pgbouncer does not answer: %v: %s", err, text)
		}
	}
}

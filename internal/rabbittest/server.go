package rabbittest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Server is a RabbitMQ server of a test's own, on ports of 127.0.0.1 and in a directory of its own.
type Server struct {
	bin, dir  string
	port, tls int
	overTLS   bool // it listens on tls too
	epmd      *process
	node      *process
	env       []string
}

// process is a program that runs.
type process struct {
	*exec.Cmd
	exited chan struct{}
}

// Start starts a server. extra are lines of rabbitmq.conf. The caller removes it.
func Start(extra ...string) (*Server, error) {
	s := &Server{}
	var err error
	if s.bin, err = binaries(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "pulse-rabbitmq-"); err != nil {
		return nil, err
	}
	if err = s.begin(extra); err != nil {
		return nil, errors.Join(err, s.Remove())
	}
	return s, nil
}

func (s *Server) begin(extra []string) error {
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	s.port, s.tls = ports[0], ports[1]
	s.env = append(os.Environ(),
		"HOME="+s.dir,
		"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT="+strconv.Itoa(ports[2]),
		fmt.Sprintf("RABBITMQ_NODENAME=pulse%d@localhost", s.port),
		"RABBITMQ_DIST_PORT="+strconv.Itoa(ports[3]),
		"RABBITMQ_MNESIA_BASE="+s.data(), "RABBITMQ_LOG_BASE="+filepath.Join(s.dir, "log"),
		"RABBITMQ_CONFIG_FILE="+filepath.Join(s.dir, "rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE="+filepath.Join(s.dir, "env.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(s.dir, "plugins"),
		"RABBITMQ_ALLOW_INPUT=1", // the script becomes the server, which ends when it is killed
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
	)
	if err := s.configure(extra); err != nil {
		return err
	}
	if s.epmd, err = s.run("epmd", "-address", "127.0.0.1", "-port", strconv.Itoa(ports[2])); err != nil {
		return err
	}
	return s.Restart()
}

// configure writes the files that the server reads.
func (s *Server) configure(extra []string) error {
	definitions, err := json.Marshal(map[string]any{
		"users":  []any{account(User, "administrator"), account(Stranger, "")},
		"vhosts": []any{map[string]string{"name": "/"}, map[string]string{"name": VHost}},
		"permissions": []any{
			permission(User, "/", ".*"), permission(User, VHost, ".*"), permission(Stranger, "/", "^$"),
		},
	})
	if err != nil {
		return err
	}
	lines := append([]string{
		"listeners.tcp.1 = 127.0.0.1:" + strconv.Itoa(s.port),
		"load_definitions = " + filepath.Join(s.dir, "definitions.json"),
		"log.console = false", "log.file.level = warning",
		"disk_free_limit.absolute = 1MB", "vm_memory_high_watermark.absolute = 3GB",
		"raft.wal_max_size_bytes = 67108864", // quorum queues keep as much of their journal in memory, 512 MB by default
	}, extra...)
	for i := range lines {
		s.overTLS = s.overTLS || strings.Contains(lines[i], tlsPort)
		lines[i] = strings.ReplaceAll(lines[i], tlsPort, strconv.Itoa(s.tls))
	}
	for name, text := range map[string]string{
		"definitions.json": string(definitions), "rabbitmq.conf": strings.Join(lines, "\n") + "\n", "env.conf": "", "plugins": "[].\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// account is a user in the definitions of a server.
func account(name, tags string) map[string]string {
	salt := []byte{1, 2, 3, 4}
	sum := sha256.Sum256(append(salt, Password...))
	return map[string]string{
		"name": name, "tags": tags, "hashing_algorithm": "rabbit_password_hashing_sha256",
		"password_hash": base64.StdEncoding.EncodeToString(append(salt, sum[:]...)),
	}
}

func permission(user, vhost, all string) map[string]string {
	return map[string]string{"user": user, "vhost": vhost, "configure": all, "write": all, "read": all}
}

// run starts a program that ends when this process does.
func (s *Server) run(program string, args ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(s.dir, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{exec.Command(program, args...), make(chan struct{})}
	p.Dir, p.Env, p.Stdout, p.Stderr = s.dir, s.env, log, log
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.Wait()
		close(p.exited)
	}()
	return p, nil
}

// end sends the program a signal and waits for its end.
func (p *process) end(sig os.Signal) error {
	if p == nil {
		return nil
	}
	if err := p.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(Patience):
		return fmt.Errorf("%s did not end on %s", p.Path, sig)
	}
}

// Kill ends the server at once. Restart starts it again.
func (s *Server) Kill() error { return s.node.end(syscall.SIGKILL) }

// Stop ends the server in good order. Restart starts it again.
func (s *Server) Stop() error { return s.node.end(syscall.SIGTERM) }

// Wipe removes all that a stopped server knows but its configuration.
func (s *Server) Wipe() error { return os.RemoveAll(s.data()) }

// Restart starts a server that does not run, and waits until it lets clients in.
func (s *Server) Restart() (err error) {
	if s.node, err = s.run(filepath.Join(s.bin, "rabbitmq-server"), "-noinput"); err != nil {
		return err
	}
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-s.node.exited:
			said, _ := os.ReadFile(filepath.Join(s.dir, "output"))
			return fmt.Errorf("the server ended: %s", output(said))
		default:
		}
		if err = s.knock(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the server does not let clients in: %w", err)
}

// knock returns an error unless the server lets clients in wherever it is to listen: it opens one port after the other.
func (s *Server) knock() error {
	if s.overTLS {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.tls)))
		if err != nil {
			return err
		}
		conn.Close()
	}
	conn, err := amqp.Dial(s.URL())
	if err != nil {
		return err
	}
	return conn.Close()
}

// Remove stops the server and takes its directory away.
func (s *Server) Remove() error {
	return errors.Join(s.node.end(syscall.SIGKILL), s.epmd.end(syscall.SIGKILL), os.RemoveAll(s.dir))
}

func (s *Server) data() string { return filepath.Join(s.dir, "mnesia") }

// Address is that of the server.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is where User is let in.
func (s *Server) URL() string { return s.URLFor(User, Password, s.Address(), "/") }

// URLFor is a URL with another user, address or virtual host.
func (s *Server) URLFor(user, password, address, vhost string) string {
	return "amqp://" + url.UserPassword(user, password).String() + "@" + address + "/" + url.PathEscape(vhost)
}

// tlsPort stands for a port that is not known yet.
const tlsPort = "{tls}"

// TLS are lines for a server that also lets clients in over TLS, at TLSURL, with a certificate and its key in PEM files.
func TLS(cert, key string) []string {
	return []string{
		"listeners.ssl.1 = 127.0.0.1:" + tlsPort, "ssl_options.cacertfile = " + cert, "ssl_options.certfile = " + cert, "ssl_options.keyfile = " + key,
		"ssl_options.verify = verify_none", "ssl_options.fail_if_no_peer_cert = false",
	}
}

// TLSURL is where User is let in over TLS.
func (s *Server) TLSURL() string {
	return "amqps" + strings.TrimPrefix(s.URLFor(User, Password, net.JoinHostPort("127.0.0.1", strconv.Itoa(s.tls)), "/"), "amqp")
}

// Control runs rabbitmqctl, which takes seconds.
func (s *Server) Control(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "rabbitmqctl"), args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rabbitmqctl %s: %w: %s", strings.Join(args, " "), err, output(out))
	}
	return nil
}

// freePorts finds ports that nobody uses.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

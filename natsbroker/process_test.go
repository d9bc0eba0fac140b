package natsbroker_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

// envProcess makes a process of this test a server: what it is set to describes it.
const envProcess = "PULSE_NATSBROKER_SERVER"

// process is a server in a process of its own, which can be killed.
type process struct {
	Name, Dir    string
	Port         int
	Routes       []int // ports of the cluster, its own first; none for a server that is alone
	ClusterRoute int

	cmd   *exec.Cmd
	stdin io.Writer
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(envProcess); spec != "" {
		fmt.Fprintln(os.Stderr, serve(spec))
		os.Exit(1)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait far more than they compute
		panic(err)
	}
	// A server that is shut down in the middle of an atomic batch leaves the file open that it staged the batch in.
	const server = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(server+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(server+".(*msgBlock).flushLoop"), goleak.IgnoreAnyFunction(server+"/ats.Register.func1"))
}

// serve runs a server until its standard input ends, which it does when the test is gone.
func serve(spec string) error {
	var p process
	if err := json.Unmarshal([]byte(spec), &p); err != nil {
		return err
	}
	o := &server.Options{
		ServerName: p.Name, Host: "127.0.0.1", Port: p.Port, Authorization: token, StoreDir: p.Dir,
		JetStream: true, NoSigs: true, NoLog: true,
	}
	if len(p.Routes) > 0 {
		o.Cluster = server.ClusterOpts{Name: "school", Host: "127.0.0.1", Port: p.ClusterRoute}
		for _, port := range p.Routes {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprint("127.0.0.1:", port)})
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	fmt.Println("started")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	if err == nil { // as it does when it gets a SIGTERM
		s.Shutdown()
		s.WaitForShutdown()
	}
	return err
}

// start starts the process, which is killed with the test.
func (p *process) start(t testing.TB) {
	t.Helper()
	spec, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), envProcess+"="+string(spec))
	p.cmd.Stderr = t.Output()
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the server did not start: %q, %v", line, err)
	}
}

// kill ends the process without notice.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p.cmd = nil
}

// stop ends the process as its operator would.
func (p *process) stop() {
	fmt.Fprintln(p.stdin)
	p.cmd.Wait()
	p.cmd = nil
}

func (p *process) url() string { return fmt.Sprint("nats://127.0.0.1:", p.Port) }

// freePorts are ports nobody listens on.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// processes runs a cluster of three servers that can be killed.
func processes(t testing.TB) (nodes []*process, addresses string) {
	t.Helper()
	ports := freePorts(t, 6)
	var urls []string
	for i := range 3 {
		p := &process{Name: fmt.Sprint("n", i), Dir: t.TempDir(), Port: ports[i], Routes: ports[3:], ClusterRoute: ports[3+i]}
		p.start(t)
		nodes = append(nodes, p)
		urls = append(urls, p.url())
	}
	return nodes, strings.Join(urls, ",")
}

// named finds a server.
func named(t testing.TB, nodes []*process, name string) *process {
	t.Helper()
	i := slices.IndexFunc(nodes, func(p *process) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no server %q", name)
	}
	return nodes[i]
}

// client is a client of its own.
func client(t testing.TB, url string, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	options = append(options, nats.Token(token), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
	nc, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/health"
	"github.com/edupulse-live/pulse/natsbroker"
	"github.com/edupulse-live/pulse/sqlitestore"
)

// school is a store with an emitter in this process, to be served by others.
type school struct {
	dir   string
	store pulse.Store
	bus   *pulse.Bus
	count int // of events emitted
}

func newSchool(t *testing.T) *school {
	t.Helper()
	s := &school{dir: t.TempDir()}
	store, err := sqlitestore.Open(t.Context(), filepath.Join(s.dir, "pulse.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	s.store = store
	if s.bus, err = pulse.New(store, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.bus.Close() })
	return s
}

// emit emits n events, of three keys.
func (s *school) emit(t *testing.T, n int) {
	t.Helper()
	for range n {
		ev := pulse.Raw{Name: "lesson.published", Key: fmt.Sprint("lesson-", s.count%3), Data: []byte(`{}`)}
		if _, err := s.bus.Emit(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
		s.count++
	}
}

// pulse runs a command to its end.
func (s *school) pulse(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), pulseProgram(t), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &out, &errs
	_ = cmd.Run() // the exit code tells
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// serve runs pulse serve until the test ends.
func (s *school) serve(t *testing.T, args ...string) *server {
	t.Helper()
	p := &server{process: process{stdout: &lockedBuffer{}, stderr: &lockedBuffer{}}}
	p.Cmd = exec.CommandContext(context.WithoutCancel(t.Context()), pulseProgram(t), append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	p.Dir, p.Stdout, p.Stderr = s.dir, p.stdout, p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	p.stderr.await(t, " http=")
	_, rest, _ := strings.Cut(p.stderr.String(), " http=")
	p.url = "http://" + strings.Fields(rest)[0]
	return p
}

// server is a running pulse serve.
type server struct {
	process
	url string
}

// signal sends a signal.
func (p *server) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (p *server) exit() int {
	_ = p.Wait()
	return p.ProcessState.ExitCode()
}

// await waits until the relay is as ok says.
func (p *server) await(t *testing.T, what string, ok func(code int, d health.DestinationReport) bool) {
	t.Helper()
	var code int
	var last string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		code, last = resp.StatusCode, string(body)
		var r health.Report
		if json.Unmarshal(body, &r) == nil && len(r.Destinations) == 1 && ok(code, r.Destinations[0]) {
			return
		}
	}
	t.Fatalf("%s does not come, but %d %s; stderr:\n%s", what, code, last, p.stderr)
}

// awaitPublished waits until everything emitted is published.
func (p *server) awaitPublished(t *testing.T, s *school) {
	t.Helper()
	p.await(t, "the last event", func(code int, d health.DestinationReport) bool {
		return code == 200 && d.Lag == 0 && int(d.Cursor) == s.count
	})
}

func runningHere(code int, d health.DestinationReport) bool {
	return code == 200 && d.State == health.Running && d.Holder != ""
}

// published reads the positions in a stream, in order, until it had n or there are no more.
func published(t *testing.T, url, token string) []pulse.Position {
	t.Helper()
	b, err := natsbroker.Connect(t.Context(), url, &natsbroker.Options{Auth: natsbroker.Auth{Token: token}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	feed, err := b.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "check", Start: pulse.Beginning, Window: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	var positions []pulse.Position
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		msgs, err := feed.Fetch(ctx, 1000)
		cancel()
		if err != nil {
			return positions
		}
		var receipts []uint64
		for i := range msgs {
			positions, receipts = append(positions, msgs[i].Position), append(receipts, msgs[i].Receipt)
		}
		if err := feed.Ack(t.Context(), receipts); err != nil {
			t.Fatal(err)
		}
	}
}

// checkComplete checks that positions are 1 to n, first coming in order of position, perhaps more than once.
func checkComplete(t *testing.T, positions []pulse.Position, n int) (again int) {
	t.Helper()
	highest := pulse.Position(0)
	for i, p := range positions {
		if p > highest+1 {
			t.Fatalf("message %d has position %d behind %d", i+1, p, highest)
		}
		highest = max(highest, p)
	}
	if int(highest) != n {
		t.Fatalf("the last message has position %d of %d", highest, n)
	}
	return len(positions) - n
}

// natsServer runs a NATS server for the test.
func natsServer(t *testing.T) string {
	t.Helper()
	srv, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return srv.ClientURL()
}

// freeAddress is an address nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestServeStopsOnSIGTERM(t *testing.T) {
	s := newSchool(t)
	s.emit(t, 10)
	at := freeAddress(t)
	p := s.serve(t, "--nats-listen", at)
	p.awaitPublished(t, s)
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
	if got := p.stdout.String(); !strings.HasPrefix(got, "clients connect to nats://"+at+" with the token ") {
		t.Errorf("stdout is %q", got)
	}
	if _, err := net.Dial("tcp", at); err == nil {
		t.Error("the broker goes on")
	}
}

// TestServeKilled kills the relay with its embedded broker again and again while events are emitted.
func TestServeKilled(t *testing.T) {
	s := newSchool(t)
	url := freeAddress(t)
	args := []string{"--nats-listen", url, "--nats-token", "secret"}
	for range 3 {
		p := s.serve(t, args...)
		p.await(t, "running", runningHere)
		s.emit(t, 300)
		p.signal(t, syscall.SIGKILL)
		p.exit()
		s.emit(t, 100)
	}
	p := s.serve(t, args...)
	p.awaitPublished(t, s)
	positions := published(t, "nats://"+url, "secret")
	again := checkComplete(t, positions, s.count)
	t.Logf("%d events, %d messages twice", s.count, again)
}

// TestTwoServe: one of two publishes, and the other one when that is killed.
func TestTwoServe(t *testing.T) {
	for name, args := range map[string]func(t *testing.T) []string{
		"a NATS server": func(t *testing.T) []string { return []string{"--broker", natsServer(t)} },
		"embedded": func(t *testing.T) []string {
			return []string{"--broker", "embedded", "--nats-listen", freeAddress(t), "--nats-token", "secret"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, args := newSchool(t), args(t)
			first := s.serve(t, args...)
			first.await(t, "running", runningHere)
			second := s.serve(t, args...)
			s.emit(t, 200)
			first.awaitPublished(t, s)
			held := fmt.Sprintf("/%d/", first.Process.Pid)
			second.await(t, "the standby", func(code int, d health.DestinationReport) bool {
				return code == 200 && int(d.Cursor) == s.count && strings.Contains(d.Holder, held)
			})
			s.emit(t, 50)
			first.signal(t, syscall.SIGKILL)
			first.exit()
			s.emit(t, 200)
			second.awaitPublished(t, s)
			held = fmt.Sprintf("/%d/", second.Process.Pid)
			second.await(t, "the takeover", func(code int, d health.DestinationReport) bool {
				return runningHere(code, d) && strings.Contains(d.Holder, held)
			})
			url := args[1]
			if url == "embedded" {
				url = "nats://" + args[3]
			}
			checkComplete(t, published(t, url, "secret"), s.count)
			second.signal(t, syscall.SIGTERM)
			if code := second.exit(); code != 0 {
				t.Errorf("exit code %d: %s", code, second.stderr)
			}
		})
	}
}

// stallable passes bytes on to another address until it is told to keep them.
type stallable struct {
	net.Listener
	to      string
	mu      sync.Mutex // held while it keeps them
	helpers sync.WaitGroup
}

func newStallable(t *testing.T, to string) *stallable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &stallable{Listener: l, to: to}
	p.helpers.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.helpers.Wait()
	})
	return p
}

func (p *stallable) accept() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			p.helpers.Go(func() {
				defer pair[0].Close()
				defer pair[1].Close()
				buf := make([]byte, 4096)
				for {
					n, err := pair[0].Read(buf)
					if err != nil {
						return
					}
					p.mu.Lock()
					_, err = pair[1].Write(buf[:n])
					p.mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
	}
}

// TestServeAborts: with a broker that does not answer the first signal waits, the second does not.
func TestServeAborts(t *testing.T) {
	s := newSchool(t)
	proxy := newStallable(t, strings.TrimPrefix(natsServer(t), "nats://"))
	p := s.serve(t, "--broker", "nats://"+proxy.Addr().String())
	s.emit(t, 1)
	p.awaitPublished(t, s)
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	s.emit(t, 1)
	p.await(t, "an event under way", func(_ int, d health.DestinationReport) bool { return d.Lag == 1 })
	p.signal(t, syscall.SIGTERM)
	p.stderr.await(t, "stopping, a second signal aborts")
	p.signal(t, syscall.SIGTERM)
	if code := p.exit(); code != 130 {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
}

func TestServeConfigurationErrors(t *testing.T) {
	s := newSchool(t)
	code, stdout, stderr := s.pulse(t, "serve", "--broker", "kafka", "--listen", "80", "--nats-listen", "x", "--log-format", "xml")
	if code != 2 || stdout != "" || !strings.Contains(stderr, "the configuration has 4 errors") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestStatusAndRepublish(t *testing.T) {
	s := newSchool(t)
	if code, _, stderr := s.pulse(t, "republish", "--to", "nats", "--from", "1", "--dry-run"); code != 3 || !strings.Contains(stderr, "run pulse serve") {
		t.Errorf("before serve: %d, %s", code, stderr)
	}
	s.emit(t, 20)
	at := natsServer(t)
	p := s.serve(t, "--broker", at)
	p.awaitPublished(t, s)
	_, stdout, _ := s.pulse(t, "status")
	if want := "\nDESTINATION  CURSOR  LAG  OLDEST  WAITING  BLOCKED  PARKED  STATE\nnats             20    0       -        0        0       0  run by "; !strings.Contains(stdout, want) {
		t.Errorf("status:\n%s", stdout)
	}
	_, stdout, _ = s.pulse(t, "status", "--json")
	var status struct {
		Destinations []struct {
			Name           string
			Cursor, Parked int
			Paused         bool
		}
		Subscriptions []any
	}
	if err := json.Unmarshal([]byte(stdout), &status); err != nil || len(status.Destinations) != 1 || status.Destinations[0].Cursor != 20 || len(status.Subscriptions) != 0 {
		t.Errorf("status: %v\n%s", err, stdout)
	}
	to := []string{"republish", "--to", "nats", "--broker", at}
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"--from", "beginning", "--dry-run"}, 0, "20 events would be sent to nats again\n", ""},
		{[]string{"--from", "18", "--through", "19", "--rate", "100"}, 0, "2 events sent to nats again\n", ""},
		{[]string{"--from", "1", "--name", "quiz.>", "--json"}, 0, `{"destination":"nats","count":0,"dry_run":false}` + "\n", ""},
		{[]string{"--from", "20"}, 0, "1 event sent to nats again\n", ""},
		{[]string{"--from", "21"}, 2, "", "the relay has published up to 20"},
		{[]string{"--from", "5", "--through", "4"}, 2, "", `--through "4" is no position from 5 on`},
		{[]string{"--from", "1", "--name", "UPPER"}, 2, "", "--name"},
		{[]string{"--from", "1", "--rate", "-1"}, 2, "", `--rate "-1": give a whole number, 1 or more`},
		{nil, 2, "", "from where?"},
		{[]string{"--from", "1", "all"}, 2, "", `takes no argument, only flags: what is "all" for?`},
		{[]string{"--from", "1", "--to", "kafka"}, 3, "", `no destination "kafka": there are nats`},
		{[]string{"--from", "1", "--broker", "log"}, 2, "", `--to nats: the broker is log, whose destination is called "log"`},
	} {
		code, stdout, stderr := s.pulse(t, append(slices.Clone(to), c.args...)...)
		if code != c.code || stdout != c.stdout || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%v: exit code %d\nstdout %q\nstderr %q", c.args, code, stdout, stderr)
		}
	}
	if code, _, stderr := s.pulse(t, "republish", "nats"); code != 2 || !strings.Contains(stderr, "write --to nats") {
		t.Errorf("a destination without --to: %d, %s", code, stderr)
	}
	if code, _, stderr := s.pulse(t, "subscription", "pause", "nats"); code != 3 || !strings.Contains(stderr, "is called relay/nats") {
		t.Errorf("the name of a destination for its relay: %d, %s", code, stderr)
	}
	if code, _, stderr := s.pulse(t, "subscription", "replay", "relay/nats", "--from", "1"); code != 2 || !strings.Contains(stderr, "pulse republish --to nats") {
		t.Errorf("replay of a relay: %d, %s", code, stderr)
	}
	for word, want := range map[string]string{"--to": "nats\n", "--broker": "embedded\nnats://\namqp://\namqps://\nkafka://\nlog\nnone\n"} {
		if _, stdout, _ := s.pulse(t, "__complete", "republish", word, ""); !strings.HasPrefix(stdout, want) {
			t.Errorf("%s is completed by %q", word, stdout)
		}
	}
	s.emit(t, 5)
	p.awaitPublished(t, s)
	got := published(t, at, "")
	if again := []pulse.Position{18, 19, 20}; checkComplete(t, got, 25) != 3 || !slices.Equal(got[20:23], again) {
		t.Errorf("the broker has %v", got)
	}
}

// TestRepublishToEmbedded: while serve has the broker to itself it says how to get there.
func TestRepublishToEmbedded(t *testing.T) {
	s := newSchool(t)
	s.emit(t, 3)
	p := s.serve(t)
	p.awaitPublished(t, s)
	if code, _, stderr := s.pulse(t, "republish", "--to", "nats", "--from", "1"); code != 1 || !strings.Contains(stderr, "--broker nats://TOKEN@HOST:PORT") {
		t.Errorf("%d, %s", code, stderr)
	}
	p.signal(t, syscall.SIGTERM)
	p.exit()
	if code, stdout, stderr := s.pulse(t, "republish", "--to", "nats", "--from", "1"); code != 0 || stdout != "3 events sent to nats again\n" {
		t.Errorf("%d, %s, %s", code, stdout, stderr)
	}
}

// TestStatusTellsHowLongEventsWait at a destination to which nobody publishes.
func TestStatusTellsHowLongEventsWait(t *testing.T) {
	s := newSchool(t)
	s.emit(t, 1)
	p := s.serve(t, "--broker", "log")
	p.awaitPublished(t, s)
	p.signal(t, syscall.SIGTERM)
	p.exit()
	before := time.Now().Add(-time.Minute) // the store's clock is this one
	s.emit(t, 2)
	_, stdout, _ := s.pulse(t, "status", "--json")
	var status struct {
		Destinations []struct {
			Lag    int
			Oldest time.Time `json:"oldest_unpublished"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &status); err != nil || len(status.Destinations) != 1 {
		t.Fatalf("status: %v\n%s", err, stdout)
	}
	if d := status.Destinations[0]; d.Lag != 2 || d.Oldest.Before(before) || d.Oldest.After(time.Now()) {
		t.Errorf("status: %s", stdout)
	}
	_, stdout, _ = s.pulse(t, "doctor")
	if want := "warn  destination log: 2 events behind, and nothing publishes: start pulse serve"; !strings.Contains(stdout, want) {
		t.Errorf("doctor:\n%s", stdout)
	}
}

func TestShowAge(t *testing.T) {
	for age, want := range map[time.Duration]string{-time.Hour: "0s", 3 * time.Second: "3s", 90 * time.Second: "1m", 49*time.Hour + 5*time.Minute: "49h5m"} {
		if got := showAge(time.Now().Add(-age)); got != want {
			t.Errorf("%v is shown as %s, want %s", age, got, want)
		}
	}
	if got := showAge(time.Time{}); got != "-" {
		t.Errorf("never is shown as %s", got)
	}
}

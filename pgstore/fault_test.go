package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/pgtest"
	"github.com/edupulse-live/pulse/pgstore"
)

// G1, G2: the server is killed again and again; what was acknowledged is there, once, and what was refused is not.
func TestKilledServer(t *testing.T) {
	srv, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Remove(); err != nil {
			t.Error(err)
		}
	})
	s := openStore(t, srv.DSN())
	bus := openBus(t, s)
	c := &chaos{T: t, bus: bus, outcomes: map[uuid.UUID]error{}}
	stop := make(chan struct{})
	var emitters sync.WaitGroup
	for range 8 {
		emitters.Go(func() { c.emit(stop) })
	}
	emitters.Go(func() { c.tick(s, stop) })
	for range 3 {
		before := c.acked.Load()
		eventually(t, "events are acknowledged", func() bool { return c.acked.Load() > before+100 })
		if err := srv.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := srv.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	before := c.acked.Load()
	eventually(t, "events are acknowledged after the last restart", func() bool { return c.acked.Load() > before+100 })
	close(stop)
	emitters.Wait()
	c.check(s)
}

type chaos struct {
	*testing.T
	bus   *pulse.Bus
	acked atomic.Int64

	mu       sync.Mutex
	outcomes map[uuid.UUID]error
}

func (c *chaos) emit(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		id, err := c.bus.Emit(c.Context(), lesson())
		c.mu.Lock()
		c.outcomes[id] = err
		c.mu.Unlock()
		if err == nil {
			c.acked.Add(1)
		} else {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func (c *chaos) tick(s *pgstore.Store, stop <-chan struct{}) {
	head := pulse.Position(0)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		i, err := s.Info(c.Context())
		if err == nil && i.Head < head {
			c.Errorf("the head went from %d back to %d", head, i.Head)
		}
		head = max(head, i.Head)
	}
}

func (c *chaos) check(s *pgstore.Store) {
	unknown, refused := 0, 0
	for _, env := range readAll(c, s) {
		err, known := c.outcomes[env.ID]
		if !known {
			c.Errorf("the event at %d is there twice, or nobody emitted it", env.Position)
		}
		if err != nil && !errors.Is(err, pulse.ErrUnknown) {
			c.Errorf("the event at %d is there although the error was: %v", env.Position, err)
		}
		delete(c.outcomes, env.ID)
	}
	for id, err := range c.outcomes {
		switch {
		case err == nil:
			c.Errorf("event %s was acknowledged and is lost", id)
		case errors.Is(err, pulse.ErrUnknown):
			unknown++
		default:
			refused++
		}
	}
	c.Logf("%d events acknowledged; of those that were not, %d refused, %d unknown and not there", c.acked.Load(), refused, unknown)
}

// proxy passes connections on to a server, and can cut one at the worst moment.
type proxy struct {
	listener net.Listener
	server   atomic.Value // string, its address
	conns    sync.WaitGroup

	clients sync.Map // of net.Conn

	// When armed, the next answer of the server to what was sent after is not passed on; all connections are cut instead.
	armed atomic.Bool
	cuts  atomic.Int64
}

func startProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l}
	p.server.Store(server)
	p.conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.conns.Wait() })
	return p
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.clients.Store(client, nil)
	defer p.clients.Delete(client)
	server, err := net.Dial("tcp", p.server.Load().(string))
	if err != nil {
		return
	}
	defer server.Close()
	p.conns.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if p.armed.CompareAndSwap(true, false) { // the server has done what it was asked for, and nobody will know
			p.cuts.Add(1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut cuts all connections.
func (p *proxy) cut() {
	p.clients.Range(func(client, _ any) bool {
		_ = client.(net.Conn).Close()
		return true
	})
}

// throughProxy returns the DSN of a new database and a DSN that leads there through a proxy.
func throughProxy(t *testing.T) (direct, proxied string, p *proxy) {
	t.Helper()
	direct = newDatabase(t)
	c, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	p = startProxy(t, addressOf(&c.Config))
	port := p.listener.Addr().(*net.TCPAddr).Port
	return direct, fmt.Sprintf("host=127.0.0.1 port=%d user=%s password='%s' dbname=%s sslmode=disable", port, c.User, c.Password, c.Database), p
}

func addressOf(c *pgconn.Config) string { return net.JoinHostPort(c.Host, fmt.Sprint(c.Port)) }

// G2: the answer to an append is lost, and the append finds out what happened.
func TestLostAnswers(t *testing.T) {
	_, proxied, p := throughProxy(t)
	s := openStore(t, proxied)
	origin := originOf(t, s)
	want := 0
	for n := range 5 {
		for _, recs := range [][]pulse.Record{lessons(origin, 1), lessons(origin, n+2)} {
			p.armed.Store(true)
			appendTo(t, s, recs...)
			appendTo(t, s, recs...)
			want += len(recs)
		}
	}
	if got := len(readAll(t, s)); got != want || p.cuts.Load() < 10 {
		t.Fatalf("%d events, want %d; %d answers were lost", got, want, p.cuts.Load())
	}
}

// G2: the answer to COMMIT is lost: nobody can know, and the error says so. Emitting the same id again is safe.
func TestLostCommits(t *testing.T) {
	direct, proxied, p := throughProxy(t)
	s, pool := openStore(t, proxied), openPool(t, proxied, "4")
	bus := openBus(t, openStore(t, direct)) // its hints are not what gets lost
	origin, rec, id := originOf(t, s), pulse.Record{}, uuid.Nil
	transact := func(lose bool) error {
		rec = lessons(origin, 1)[0]
		rec.IDNew = true // so it goes with COMMIT
		return s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
			defer p.armed.Store(lose)
			return tx.Append(ctx, []pulse.Record{rec})
		})
	}
	do := func(lose bool) error {
		return pgstore.Do(t.Context(), pool, bus, func(_ pgx.Tx, e pulse.Emitter) (err error) {
			defer p.armed.Store(lose)
			id, err = e.Emit(t.Context(), lesson())
			return err
		})
	}
	for _, fn := range []func(lose bool) error{transact, do} {
		err := fn(true)
		wantError(t, err, pulse.ErrStore, "prepare") // of a new connection, where the statements are made ready first
		if errors.Is(err, pulse.ErrUnknown) {
			t.Fatalf("COMMIT was not sent, but the error is %v", err)
		}
		if err := fn(false); err != nil {
			t.Fatal(err)
		}
		wantError(t, fn(true), pulse.ErrUnknown, "under the same id")
	}
	appendTo(t, s, rec)
	if _, err := bus.Emit(t.Context(), lesson(), pulse.ID(id)); err != nil {
		t.Fatal(err)
	}
	if envs := readAll(t, openStore(t, direct)); len(envs) != 4 || envs[1].ID != rec.ID || envs[3].ID != id {
		t.Fatalf("%d events, want 4", len(envs))
	}
}

// The connection breaks before COMMIT is sent: nothing is stored, and that is known.
func TestBrokenBeforeCommit(t *testing.T) {
	dsn := newDatabase(t)
	s, pool := openStore(t, dsn), openPool(t, dsn, "2")
	origin := originOf(t, s)
	err := s.Transact(t.Context(), func(ctx context.Context, tx pulse.Tx) error {
		if err := tx.Append(ctx, lessons(origin, 1)); err != nil {
			return err
		}
		own := tx.Unwrap().(pgx.Tx)
		run(t, pool, "SELECT pg_terminate_backend($1)", number(t, own, "SELECT pg_backend_pid()::int8"))
		wantError(t, tx.Append(ctx, lessons(origin, 1)), pulse.ErrStore)
		return nil // careless
	})
	wantError(t, err, pulse.ErrStore)
	if errors.Is(err, pulse.ErrUnknown) {
		t.Fatalf("nothing can have been stored, but the error is %v", err)
	}
	if head := info(t, s).Head; head != 0 {
		t.Fatalf("%d events are stored", head)
	}
}

// The server is not there: errors say that nothing was stored.
func TestNoServer(t *testing.T) {
	_, proxied, p := throughProxy(t)
	s := openStore(t, proxied)
	origin := originOf(t, s)
	_ = p.listener.Close()
	p.armed.Store(true)
	_, _ = s.Info(t.Context()) // cuts the connection
	err := s.Append(t.Context(), lessons(origin, 1))
	wantError(t, err, pulse.ErrStore)
	if errors.Is(err, pulse.ErrUnknown) {
		t.Fatalf("nothing can have been stored, but the error is %v", err)
	}
	if _, err := pgstore.Open(t.Context(), proxied, nil); !errors.Is(err, pulse.ErrStore) {
		t.Fatalf("open: %v", err)
	}
}

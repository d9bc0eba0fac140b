//go:build unix

package guarantee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// tuned is a store as a child sees it whose leases last shorter, so that a test need not wait so long for another process to take over: the bus
// itself believes that they last as long as ever. No write is under way while the gate is locked.
type tuned struct {
	full
	ttl  time.Duration // at most; 0 for as asked
	gate *sync.RWMutex
}

// tunedPlace is a place whose store is tuned.
type tunedPlace struct {
	place
	ttl  time.Duration
	gate *sync.RWMutex
}

func (p *tunedPlace) open(ctx context.Context) (full, func() error, error) {
	store, closeStore, err := p.place.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &tuned{store, p.ttl, p.gate}, closeStore, nil
}

// write does a write while the gate is open.
func (s *tuned) write(do func() error) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	return do()
}

func (s *tuned) Append(ctx context.Context, recs []pulse.Record) error {
	return s.write(func() error { return s.full.Append(ctx, recs) })
}

func (s *tuned) Transact(ctx context.Context, fn func(context.Context, pulse.Tx) error) error {
	return s.write(func() error { return s.full.Transact(ctx, fn) })
}

func (s *tuned) Advance(ctx context.Context, lease pulse.Lease, p pulse.Progress) error {
	return s.write(func() error { return s.full.Advance(ctx, lease, p) })
}

func (s *tuned) Control(ctx context.Context, name string, c pulse.Control) error {
	return s.write(func() error { return s.full.Control(ctx, name, c) })
}

func (s *tuned) Acquire(ctx context.Context, lease pulse.Lease, ttl time.Duration) (got pulse.Lease, err error) {
	if s.ttl > 0 {
		ttl = min(ttl, s.ttl)
	}
	err = s.write(func() error { got, err = s.full.Acquire(ctx, lease, ttl); return err })
	return got, err
}

func (s *tuned) Release(ctx context.Context, lease pulse.Lease) error {
	return s.write(func() error { return s.full.Release(ctx, lease) })
}

// ambush is where a relaying child ends, or is stopped, when it publishes for the Nth time.
type ambush struct {
	Act   string // "kill", "stop", "" for nothing
	At    string // "before" and "after" publishing, "bytes" of it sent, its "answer" not heard, some "time" after its begin
	Nth   int
	Bytes int           // sent before the end, for "bytes"
	After time.Duration // for "time"
}

// trap is an ambush in the child.
type trap struct {
	ambush
	child *child
	calls atomic.Int64
	sent  atomic.Int64 // bytes since it was armed
	armed atomic.Bool
	once  sync.Once
	done  atomic.Bool
}

// spring ends or stops the process.
func (t *trap) spring() {
	t.once.Do(func() {
		if t.Act == "kill" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		t.child.gate.Lock() // a process that is stopped while it writes to SQLite stops all others with it
		t.done.Store(true)
		t.child.say("stopping")
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		time.Sleep(200 * time.Millisecond) // the signal does not stop all threads at once
	})
}

// trapped is a publisher with a trap.
type trapped struct {
	pulse.Publisher
	*trap
}

func (p *trapped) PublishBatch(ctx context.Context, envs []pulse.Envelope) []pulse.Result {
	n := int(p.calls.Add(1))
	now := p.Act != "" && n == p.Nth
	if now {
		switch p.At {
		case "before":
			p.spring()
		case "time":
			time.AfterFunc(p.After, p.spring)
		case "bytes", "answer":
			p.armed.Store(true)
		}
	}
	results := p.Publisher.PublishBatch(ctx, envs)
	if now && p.At == "after" {
		p.spring()
	}
	if p.done.CompareAndSwap(true, false) {
		p.tell(results)
		p.child.gate.Unlock() // only now can it learn from the store that another one took over
	}
	return results
}

// tell says what became of the batch during which the process was stopped.
func (p *trapped) tell(results []pulse.Result) {
	acked, refused, other := 0, 0, ""
	for _, r := range results {
		switch {
		case r.Outcome == pulse.Acked:
			acked++
		case r.Err != nil && (strings.Contains(r.Err.Error(), "another writer") || strings.Contains(r.Err.Error(), "another publisher")):
			refused++
		case r.Err != nil:
			other = r.Err.Error()
		}
	}
	p.child.say("answered %d %d %s", acked, refused, other)
}

// wire is the connection of this process to the broker, through which everything goes.
type wire struct {
	net.Listener
	to   string
	trap *trap
}

func newWire(url string, t *trap) (*wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, place := throughWire(url, nil)
	w := &wire{l, place, t}
	go w.serve()
	return w, nil
}

func (w *wire) serve() {
	for {
		client, err := w.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.to)
		if err != nil {
			client.Close()
			continue
		}
		go w.pump(server, client, w.up)
		go w.pump(client, server, w.down)
	}
}

func (w *wire) pump(to, from net.Conn, pass func(to io.Writer, b []byte) error) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if err := pass(to, b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// up sends to the broker, and springs the trap in the middle of it.
func (w *wire) up(to io.Writer, b []byte) error {
	if w.trap.At == "bytes" && w.trap.armed.Load() {
		left := w.trap.Bytes - int(w.trap.sent.Load())
		w.trap.sent.Add(int64(len(b)))
		if left <= len(b) {
			if _, err := to.Write(b[:max(left, 0)]); err != nil {
				return err
			}
			b = b[max(left, 0):]
			w.trap.spring()
		}
	}
	_, err := to.Write(b)
	return err
}

// down receives from the broker, and springs the trap when that has answered.
func (w *wire) down(to io.Writer, b []byte) error {
	if w.trap.At == "answer" && w.trap.armed.Load() {
		w.trap.spring()
	}
	_, err := to.Write(b)
	return err
}

// openBroker gives the child's bus a broker and a relay, with its traps and failpoints.
func (c *child) openBroker() error {
	t := &trap{ambush: c.Ambush, child: c}
	if t.At == "bytes" || t.At == "answer" {
		w, err := newWire(c.Broker, t)
		if err != nil {
			return err
		}
		c.Broker, _ = throughWire(c.Broker, w.Addr())
	}
	points, err := failpoint.Parse(c.Failpoints)
	if err != nil {
		return err
	}
	if c.broker, err = c.dialBroker(context.Background()); err != nil {
		return err
	}
	c.fed = []pulse.SubscribeOption{pulse.From(destination, failpoint.WrapSource(c.broker.Source(), points))}
	err = c.bus.Publish(destination, failpoint.WrapPublisher(&trapped{refusing{c.broker.Publisher()}, t}, points))
	if err != nil {
		return errors.Join(err, c.broker.Close())
	}
	return nil
}

// relayUntilSignalled is a process that publishes until SIGTERM, or with the Handler "drain" what there is.
func relayUntilSignalled(ctx context.Context, c *child) error {
	c.say("relaying")
	var err error
	if c.Handler == "drain" {
		err = c.bus.Drain(ctx)
	} else {
		err = c.bus.Run(ctx)
	}
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	c.say("drained")
	return nil
}

package natsbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
)

const (
	leaderWait  = 100 * time.Millisecond // for an answer, before a look at who leads
	leaderPause = 50 * time.Millisecond  // between two looks
	linkWait    = 2 * time.Second        // for a connection to another server of a cluster
)

// errLeader is why answers do not come.
var errLeader = errors.New("another server leads the stream now, and the one before did not answer")

// electedLeader waits until the stream is led, by who is enough, and says by whom; "" when there is no such stream. While a cluster elects a leader nobody hears a question, and
// nobody says when that is over: so it asks again and again, and does not wait for the answer to the question before.
func (b *Broker) electedLeader(ctx context.Context, enough func(leader string) bool) (string, error) {
	const room = 64
	in := make(chan *nats.Msg, room)
	sub, err := b.nc.ChanSubscribe(nats.NewInbox(), in)
	if err != nil {
		return "", err
	}
	defer func() { _ = sub.Unsubscribe() }()
	tick := time.NewTicker(leaderPause)
	defer tick.Stop()
	for {
		// Without a connection there is soon another one.
		_ = b.nc.PublishRequest("$JS.API.STREAM.INFO."+b.opts.Stream, sub.Subject, nil)
		for waiting := true; waiting; {
			select {
			case m := <-in:
				if leader, ok := readLeader(m); ok && enough(leader) {
					return leader, nil
				}
			case <-tick.C:
				waiting = false
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
	}
}

// awaitLeader waits, in a cluster, until there is somebody to answer questions about the stream.
func (b *Broker) awaitLeader(ctx context.Context) {
	if b.opts.Replicas == 1 {
		return
	}
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer b.waiting.add(cancel)()
	_, _ = b.electedLeader(asking, func(string) bool { return true })
}

// readLeader reads who leads the stream, "" when there is no such stream. ok is false when there is no leader now.
func readLeader(m *nats.Msg) (leader string, ok bool) {
	var info struct {
		Cluster struct {
			Leader string `json:"leader"`
		} `json:"cluster"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return "", false
	}
	if info.Error != nil {
		return "", !leaderless(info.Error)
	}
	return info.Cluster.Leader, info.Cluster.Leader != ""
}

// awaiting is the context for the answers of one batch. It ends, and its cause says why, when the server refuses to take an event, and
// when the server that led the stream is lost in a cluster and another one leads it: it does not answer for the one before.
func (b *Broker) awaiting(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	forget := b.publishing.add(cancel)
	watched := func() {}
	if b.opts.Replicas > 1 {
		watched = b.watchLeader(ctx, cancel)
	}
	return ctx, func() {
		forget()
		cancel(nil)
		watched()
	}
}

// watchLeader ends ctx when the stream's leader changes while answers take long. The returned function waits for its end, which is at
// once when ctx has ended.
func (b *Broker) watchLeader(ctx context.Context, cancel context.CancelCauseFunc) (wait func()) {
	done := make(chan struct{})
	led, _ := b.leader.Load().(string)
	timer := time.AfterFunc(leaderWait, func() {
		defer close(done)
		_, err := b.electedLeader(ctx, func(leader string) bool { return leader != "" && leader != led })
		if err == nil {
			cancel(fmt.Errorf("%w: %w", pulse.ErrBroker, errLeader))
		}
	})
	return func() {
		if !timer.Stop() {
			<-done
		}
	}
}

// ledAgain waits, in a cluster, until publishing that failed with err can go on, and reports whether that is so: another server leads the
// stream, or has taken the connection. Whoever publishes need not hear of it.
func (b *Broker) ledAgain(ctx context.Context, err error) bool {
	if b.opts.Replicas == 1 || ctx.Err() != nil || !passes(err) {
		return false
	}
	linking, cancel := context.WithTimeout(ctx, linkWait)
	defer cancel()
	for !b.nc.IsConnected() {
		if sleep(linking, leaderPause/5); linking.Err() != nil {
			return false
		}
	}
	asking, forget := context.WithCancelCause(ctx)
	defer forget(nil)
	defer b.waiting.add(forget)()
	leader, err := b.electedLeader(asking, func(string) bool { return true })
	sleep(asking, leaderPause/5) // its messages find it a little later
	return err == nil && leader != ""
}

// passes tells an error that comes with the loss of a server of a cluster.
func passes(err error) bool {
	for _, is := range [...]error{
		errLeader, errCut, errNoStream, nats.ErrDisconnected, nats.ErrReconnectBufExceeded, nats.ErrConnectionReconnecting, nats.ErrNoResponders,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return leaderless(err)
}

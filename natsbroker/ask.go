package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
)

const (
	callTimeout = 10 * time.Second // how long one question to the server may take
	firstWait   = time.Second      // before it is asked again, longer each time
	clusterWait = firstWait / 4    // likewise in a cluster, where a question may find no leader
	askPause    = 100 * time.Millisecond
)

// ask asks the server, again when no answer comes: while a cluster elects a leader nobody hears a question. What is asked must not
// mind to be asked twice. When the server says that the user has not the right to ask, that is the error, at once.
func ask[T any](ctx context.Context, b *Broker, question func(ctx context.Context) (T, error)) (answer T, err error) {
	wait := firstWait
	if b.opts.Replicas > 1 {
		wait = clusterWait
	}
	for {
		try, cancel := context.WithCancelCause(ctx)
		forget := b.waiting.add(cancel)
		timed, stop := context.WithTimeout(try, wait)
		answer, err = question(timed)
		stop()
		forget()
		refused := context.Cause(try)
		cancel(nil)
		switch {
		case err == nil || ctx.Err() != nil:
			return answer, err
		case refused != nil:
			return answer, refused
		case leaderless(err):
			sleep(ctx, askPause)
		case errors.Is(err, context.DeadlineExceeded):
			wait += wait / 2 // the way there and back may be long
			b.awaitLeader(ctx)
		default:
			return answer, err
		}
	}
}

// certain is ask for what should be there: in a cluster the server that answers learns a little later of what is new.
func certain[T any](ctx context.Context, b *Broker, question func(ctx context.Context) (T, error)) (answer T, err error) {
	const tries = 10
	for try := 1; ; try++ {
		answer, err = ask(ctx, b, question)
		missing := errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound)
		if !missing || b.opts.Replicas == 1 || try == tries {
			return answer, err
		}
		sleep(ctx, askPause)
	}
}

// leaderless is the answer of a cluster that has no leader at the moment.
func leaderless(err error) bool {
	const notAvailable = 10008
	return hasCode(err, notAvailable)
}

// hasCode reports whether err is this answer of the server.
func hasCode(err error, code jetstream.ErrorCode) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == code
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// waiters are those who wait for something that does not come when the user lacks a right.
type waiters struct {
	mu   sync.Mutex
	next int
	end  map[int]func(error)
}

// add adds one, whose wait ends with end. forget takes it out.
func (w *waiters) add(end func(error)) (forget func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end == nil {
		w.end = make(map[int]func(error))
	}
	w.next++
	n := w.next
	w.end[n] = end
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.end, n)
	}
}

func (w *waiters) endAll(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, end := range w.end {
		end(err)
	}
}

// lackError is a right that the user lacks.
type lackError struct {
	user   string // may be ""
	right  string // "publish" or "subscribe"
	events string // the subjects of events, when it is one of these that is refused
	err    error  // what the server says, which names the subject
}

func (e *lackError) Error() string {
	text := "the user " + e.user
	if e.user == "" {
		text = "the user"
	}
	text = fmt.Sprintf("%s lacks a right to %s: %v: grant it in the server's configuration", text, e.right, e.err)
	if e.events != "" {
		text += `, best for "` + e.events + `": until then nothing more is published, so that the order holds, and waits in the log`
	}
	return text
}

func (e *lackError) Unwrap() error { return e.err }

func lacks(err error) bool {
	_, is := errors.AsType[*lackError](err)
	return is
}

// refused takes what the server says about missing rights: about events of ours it is for publishers, all else is for who asks and reads.
func (b *Broker) refused(err error) {
	lack := &lackError{user: b.opts.Auth.User, right: "publish", err: err}
	if strings.Contains(err.Error(), "for Subscription to ") {
		lack.right = "subscribe"
	}
	who := &b.waiting
	if strings.Contains(err.Error(), `Publish to "`+b.opts.Prefix+".") {
		lack.events, who = b.opts.Prefix+".>", &b.publishing
	}
	who.endAll(fmt.Errorf("%w: %w", pulse.ErrBroker, lack))
}

// failed wraps what the client says.
func failed(op string, err error) error {
	if errors.Is(err, pulse.ErrBroker) || errors.Is(err, pulse.ErrInvalid) {
		return fmt.Errorf("natsbroker: %s: %w", op, err)
	}
	return fmt.Errorf("natsbroker: %s: %w: %s%w", op, pulse.ErrBroker, advice(err), err)
}

// advice says what people can do about what the client says.
func advice(err error) string {
	switch {
	case shutOut(err):
		return "the server does not let this user in: check Auth: "
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected):
		return "there is no connection, it is being made again: "
	case errors.Is(err, nats.ErrSecureConnRequired), strings.Contains(err.Error(), "tls: "), strings.Contains(err.Error(), "tls error"), strings.Contains(err.Error(), "x509: "):
		return "the two do not agree about certificates: check TLS: "
	case errors.Is(err, nats.ErrNoServers):
		return "nobody listens there: check the address, and that the server runs: "
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return "JetStream is not running there: enable it in the server's configuration: "
	}
	return ""
}

// shutOut tells that a server did not let this user in.
func shutOut(err error) bool {
	for _, is := range [...]error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

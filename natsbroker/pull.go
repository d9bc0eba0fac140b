package natsbroker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/edupulse-live/pulse"
)

const (
	pullExpires  = 30 * time.Second
	pullBeat     = 2 * time.Second // how often the server says that it still knows the pull
	pullSilence  = 3 * pullBeat    // then it does not: the server that did is gone
	keepInterval = 2 * time.Second

	// A pull that reaches nobody is sent again: in a cluster the server that this is a connection to learns a little later of a consumer
	// that is new, and for seconds there is nobody when one that has led it is lost.
	pullPause    = 10 * time.Millisecond // before it is sent again, doubled each time
	pullPauseMax = 250 * time.Millisecond
	pullPatience = 10 * time.Second

	pullBytes = 16 << 20 // of messages that one pull brings, at most
)

// What the server is told of a message.
const (
	ack     = "+ACK"
	working = "+WPI"
)

// pull asks for as many messages as may be out, once that is more than is on its way: not often, and early enough, as the server may be
// busy storing others when it is asked.
func (f *Feed) pull() error {
	n := f.cfg.Window - len(f.open) - len(f.arrived) - f.pulled
	if n < 1 || n < f.pulled || time.Now().Before(f.pullAfter) {
		return nil
	}
	if f.most > 0 {
		n = min(n, f.most)
	}
	b := make([]byte, 0, 128)
	b = append(b, `{"batch":`...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, `,"max_bytes":`...)
	b = strconv.AppendInt(b, max(pullBytes, 2*f.broker.nc.MaxPayload()), 10)
	b = append(b, `,"expires":`...)
	b = strconv.AppendInt(b, int64(pullExpires), 10)
	b = append(b, `,"idle_heartbeat":`...)
	b = strconv.AppendInt(b, int64(pullBeat), 10)
	b = append(b, '}')
	subject := "$JS.API.CONSUMER.MSG.NEXT." + f.broker.opts.Stream + "." + f.consumer
	if err := f.broker.nc.PublishRequest(subject, f.sub.Subject, b); err != nil {
		return failed("fetch", err)
	}
	f.pulled += n
	f.heard = time.Now()
	return nil
}

// arrive takes what the server sends: messages and what it says about pulls. It is called by the client, one at a time.
func (f *Feed) arrive(m *nats.Msg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = time.Now()
	if m.Reply == "" {
		f.status(m)
		return
	}
	d, ok := readDelivery(m.Reply)
	if !ok {
		f.failLocked(errBadReply)
		return
	}
	d.held = f.heard
	f.pulled = max(f.pulled-1, 0)
	f.count++
	if d.order != f.count || d.times != 1 {
		f.failLocked(fmt.Errorf("%w: messages got lost on their way: open again", pulse.ErrBroker))
		return
	}
	f.pullPause = 0
	if f.lastReply = d.reply; d.seq > f.delivered {
		f.delivered, f.deliveredAt = d.seq, d.at
	}
	f.arrived = append(f.arrived, arrival{msg: m, delivery: d})
	f.signal()
}

// status takes what the server says about pulls.
func (f *Feed) status(m *nats.Msg) {
	code, text := m.Header.Get("Status"), m.Header.Get("Description")
	if code != "503" {
		f.pullPause = 0
	}
	if code == "100" {
		return
	}
	left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		left = f.pulled
	}
	f.pulled = max(f.pulled-left, 0)
	switch {
	case code == "404", code == "408":
	case code == "409" && slices.Contains([]string{"Leadership Change", "Server Shutdown", "Batch Completed", "Message Size Exceeds MaxBytes"}, text):
	case code == "409" && text == "Consumer Deleted":
		f.failLocked(fmt.Errorf("%w: the consumer was deleted: another instance took over, or the stream is gone: open again", pulse.ErrBroker))
	case code == "503":
		f.unheard()
		return
	case code == "409" && f.limited(text):
	default:
		f.failLocked(fmt.Errorf("%w: the server refuses to deliver: %s %s", pulse.ErrBroker, code, text))
	}
	f.signal()
}

// limited takes what a server says that was told to give fewer messages to a pull than were asked for.
func (f *Feed) limited(text string) bool {
	n, err := fmt.Sscanf(text, "Exceeded MaxRequestBatch of %d", &f.most)
	return n == 1 && err == nil && f.most > 0
}

// unheard is for a pull that nobody took. Pulling again waits, each time longer, and while it does the keeper looks whether there is
// still a consumer.
func (f *Feed) unheard() {
	if f.pullPause == 0 {
		f.pullPause, f.unheardSince = pullPause, f.heard
	}
	if f.heard.Sub(f.unheardSince) > pullPatience {
		f.failLocked(fmt.Errorf("%w: nobody answers for the consumer: JetStream is not running, or too few servers of the cluster are: open again", pulse.ErrBroker))
		return
	}
	f.pullAfter = f.heard.Add(f.pullPause)
	time.AfterFunc(f.pullPause, f.signal)
	if f.pullPause = min(2*f.pullPause, pullPauseMax); f.pullPause == pullPauseMax {
		select {
		case f.look <- struct{}{}:
		default:
		}
	}
}

// answer tells the server something about a message. What cannot be sent comes again.
func (f *Feed) answer(reply, what string) error { return f.broker.nc.Publish(reply, []byte(what)) }

// Ack acknowledges exactly the messages with these receipts; see pulse.Feed. It does not wait for the server. Acknowledging twice does nothing.
func (f *Feed) Ack(ctx context.Context, receipts []uint64) error {
	if err := ctx.Err(); err != nil {
		return failed("ack", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usable("ack"); err != nil {
		return err
	}
	for _, r := range receipts {
		if r == 0 || r > f.receipt {
			return fmt.Errorf("natsbroker: ack: receipt %d was not given by this feed: %w", r, pulse.ErrInvalid)
		}
		d := f.open[r]
		if d == nil {
			continue
		}
		if err := f.answer(d.reply, ack); err != nil {
			return failed("ack", err)
		}
		delete(f.open, r)
	}
	f.signal()
	return nil
}

// keep tells the server about messages that take long, and looks whether everything is still there.
func (f *Feed) keep() {
	t := time.NewTicker(keepInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f.hold()
			f.checkSoon()
		case <-f.look:
			f.checkSoon()
		case <-f.stop:
			return
		case <-f.cut:
			f.fail(fmt.Errorf("%w: the connection was lost: open again", pulse.ErrBroker))
			return
		}
	}
}

// checkSoon ends the feed when what it has to deliver is gone.
func (f *Feed) checkSoon() {
	ctx, cancel := context.WithTimeout(context.Background(), keepInterval)
	defer cancel()
	if err := f.check(ctx); err != nil {
		f.fail(err)
	}
}

// hold says of every message that was not acknowledged for long that it is still here, and asks again when the server has not
// been heard of.
func (f *Feed) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	say := func(d *delivery) {
		if now.Sub(d.held) >= ackWait/2-keepInterval && f.answer(d.reply, working) == nil {
			d.held = now
		}
	}
	for _, d := range f.open {
		say(d)
	}
	for i := range f.arrived {
		say(&f.arrived[i].delivery)
	}
	if f.pulled > 0 && now.Sub(f.heard) > pullSilence {
		f.pulled = 0
		f.signal()
	}
}

// Close gives unacknowledged messages back.
func (f *Feed) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	f.signal()
	started := f.sub != nil
	f.mu.Unlock()
	if !started {
		f.broker.leave(f, nil)
		return nil
	}
	close(f.stop)
	f.keeper.Wait()
	f.forget()
	f.settle()
	f.broker.leave(f, f.progress())
	return nil
}

// progress is how far the feed came.
func (f *Feed) progress() *progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deliveredAt == 0 {
		return cmp.Or(f.ended, &progress{}) // it came no further; one that began anew leaves nothing of those before it
	}
	p := &progress{stream: f.made, delivered: f.delivered, at: f.deliveredAt, open: make(map[uint64]bool)}
	for _, d := range f.open {
		p.open[d.seq] = true
	}
	for i := range f.arrived {
		if seq := f.arrived[i].seq; !f.ended.acked(seq) {
			p.open[seq] = true
		}
	}
	if before := f.ended; before != nil && before.delivered > f.delivered { // it did not come as far
		for seq := range before.open {
			if seq > f.delivered {
				p.open[seq] = true
			}
		}
		p.delivered, p.at = before.delivered, before.at
	}
	return p
}

// settle ends the subscription at the server. What is on its way here comes again from the next consumer.
func (f *Feed) settle() {
	const patience = 2 * time.Second
	_ = f.sub.Unsubscribe()
	select {
	case <-f.done:
	case <-f.cut:
	case <-time.After(patience):
	}
	f.mu.Lock()
	last := f.lastReply
	f.mu.Unlock()
	if last != "" && f.broker.nc.IsConnected() {
		// The answer comes after all acknowledgements were seen to, which a server that is stopped would forget.
		_, _ = f.broker.nc.Request(last, []byte(working), patience)
	}
}

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

const (
	clientBatch  = 4000 // messages in an atomic batch, as many as the broker sends
	clientFlight = 2    // batches that may be under way: while the server stores one, the next is sent
)

// client is the NATS client alone, on a server in this process: the same stream as that of the broker, the same messages, ready to be sent.
type client struct {
	srv     *server.Server
	conn    *nats.Conn
	answers *nats.Subscription
	msgs    []*nats.Msg
	numbers [][]string // values of the header that counts the messages of a batch
}

// clientOnce publishes n messages, in atomic batches, without Pulse.
func (b *bench) clientOnce(ctx context.Context, store Store, n int) (perSec float64, err error) {
	broker, err := b.newBroker(ctx)
	if err != nil {
		return 0, err
	}
	defer b.removeDir(broker.Dir)
	if err := broker.Close(); err != nil { // its stream stays
		return 0, err
	}
	page, err := store.Read(ctx, pulse.Query{Limit: clientBatch})
	if err != nil {
		return 0, err
	}
	c := &client{}
	defer c.close()
	if err := c.open(ctx, broker.Dir, page.Envelopes); err != nil {
		return 0, err
	}
	begin := time.Now()
	err = c.publish(ctx, n)
	return perSecond(int64(n), time.Since(begin)), err
}

// open starts a server on what a broker has left, as it ran it: in this process, syncing before it answers.
func (c *client) open(ctx context.Context, dir string, envs []pulse.Envelope) (err error) {
	c.srv, err = server.NewServer(&server.Options{
		ServerName: "bench", DontListen: true, NoSigs: true, JetStream: true, StoreDir: dir, SyncAlways: true,
		JetStreamLimits:    server.JSLimitOpts{MaxBatchSize: clientBatch},
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: math.MaxInt64 / 2,
	})
	if err != nil {
		return err
	}
	c.srv.Start()
	const patience = 30 * time.Second
	if !c.srv.ReadyForConnections(patience) {
		return errors.New("the NATS server did not start")
	}
	if c.conn, err = nats.Connect("", nats.InProcessServer(c.srv)); err != nil {
		return err
	}
	prefix, err := c.prefix(ctx)
	if err != nil {
		return err
	}
	if c.answers, err = c.conn.SubscribeSync(nats.NewInbox()); err != nil {
		return err
	}
	for i := range clientBatch {
		c.numbers = append(c.numbers, []string{strconv.Itoa(i + 1)})
		msg, err := message(prefix, &envs[i%len(envs)])
		if err != nil {
			return err
		}
		c.msgs = append(c.msgs, msg)
	}
	return nil
}

// prefix is what the subjects of the stream begin with.
func (c *client) prefix(ctx context.Context) (string, error) {
	js, err := jetstream.New(c.conn)
	if err != nil {
		return "", err
	}
	streams := js.ListStreams(ctx)
	for info := range streams.Info() {
		return strings.TrimSuffix(info.Config.Subjects[0], ">"), nil
	}
	return "", errors.Join(errors.New("the broker has left no stream"), streams.Err())
}

// message is what an event is published as.
func message(prefix string, env *pulse.Envelope) (*nats.Msg, error) {
	headers, err := cloudevents.AppendHeaders(nil, env)
	if err != nil {
		return nil, err
	}
	msg := &nats.Msg{Subject: prefix + env.Name, Header: nats.Header{}, Data: env.Data}
	for _, h := range headers {
		msg.Header[h.Name] = []string{h.Value}
	}
	return msg, nil
}

// publish publishes n messages.
func (c *client) publish(ctx context.Context, n int) error {
	flying := 0
	for n > 0 || flying > 0 {
		if size := min(n, clientBatch); size > 0 {
			if err := c.send(size); err != nil {
				return err
			}
			n -= size
			flying++
		}
		if flying == clientFlight || n == 0 {
			if err := c.await(ctx); err != nil {
				return err
			}
			flying--
		}
	}
	return nil
}

// send sends one batch.
func (c *client) send(size int) error {
	id := []string{uuid.NewString()}
	for i, msg := range c.msgs[:size] {
		msg.Header["Nats-Batch-Id"] = id
		msg.Header["Nats-Batch-Sequence"] = c.numbers[i]
		if i == size-1 {
			last := nats.Msg{Subject: msg.Subject, Header: nats.Header{"Nats-Batch-Commit": {"1"}}, Data: msg.Data, Reply: c.answers.Subject}
			for name, values := range msg.Header {
				last.Header[name] = values
			}
			msg = &last
		}
		if err := c.conn.PublishMsg(msg); err != nil {
			return err
		}
	}
	return nil
}

// await waits for the answer to a batch.
func (c *client) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	m, err := c.answers.NextMsgWithContext(ctx)
	if err == nil && (!bytes.Contains(m.Data, []byte(`"seq"`)) || bytes.Contains(m.Data, []byte(`"error"`))) {
		err = fmt.Errorf("the server refuses a batch: %s", m.Data)
	}
	return err
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
	}
	if c.srv != nil {
		c.srv.Shutdown()
		c.srv.WaitForShutdown()
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// broker is a NATS server in this process, as natsbroker embeds it: without a port, and synced before each acknowledgement.
type broker struct {
	server *server.Server
	nc     *nats.Conn
	js     jetstream.JetStream
}

func embed(dir string) (*broker, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "rival", DontListen: true, JetStream: true, StoreDir: filepath.Join(dir, "nats"), SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, err
	}
	srv.Start()
	b := &broker{server: srv}
	if !srv.ReadyForConnections(patience) {
		return nil, errors.Join(errors.New("the NATS server did not start"), b.close())
	}
	if b.nc, err = b.connect(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// connect makes a further connection.
func (b *broker) connect() (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(b.server))
	if err != nil {
		return nil, fmt.Errorf("connect to the NATS server in this process: %w", err)
	}
	return nc, nil
}

func (b *broker) close() error {
	if b.nc != nil {
		b.nc.Close()
	}
	b.server.Shutdown()
	b.server.WaitForShutdown()
	return nil
}

// messages is how many messages a stream has.
func (b *broker) messages(ctx context.Context, stream string) (int64, error) {
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	return int64(s.CachedInfo().State.Msgs), nil
}

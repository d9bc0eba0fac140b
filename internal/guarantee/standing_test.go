//go:build unix

package guarantee

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/edupulse-live/pulse/internal/rabbittest"
	"github.com/edupulse-live/pulse/natsbroker"
)

// standing is a broker for one test, which goes down and comes back where it was with what it had.
type standing struct {
	outside
	down func() error
	up   func(ctx context.Context) (outside, error)
}

func newStanding(t testing.TB, system string) *standing {
	t.Helper()
	var s *standing
	var err error
	switch system {
	case onRabbit:
		s, err = standingRabbit(t)
	case onKafka:
		s, err = standingKafka(t)
	default:
		s, err = standingNATS(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stop takes the broker down.
func (s *standing) stop(t testing.TB) {
	t.Helper()
	if err := s.down(); err != nil {
		t.Fatal(err)
	}
}

// again brings it back.
func (s *standing) again(t testing.TB) outside {
	t.Helper()
	b, err := s.up(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func standingNATS(t testing.TB) (*standing, error) {
	dir := t.TempDir()
	first := newBroker(t, dir)
	return &standing{outside: first, down: first.Close, up: func(ctx context.Context) (outside, error) {
		b, err := natsbroker.Embed(ctx, dir, &natsbroker.Options{
			Listen: strings.TrimPrefix(first.URL(), "nats://"), Auth: natsbroker.Auth{Token: brokerToken}, Log: quiet(t),
		})
		return natsOutside{b}, err
	}}, nil
}

func standingKafka(t testing.TB) (*standing, error) {
	dir := t.TempDir()
	server := func(opts ...kfake.Opt) (*kfake.Cluster, error) {
		c, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.DataDir(dir))...)
		if err == nil {
			t.Cleanup(c.Close)
		}
		return c, err
	}
	c, err := server()
	if err != nil {
		return nil, err
	}
	address := c.ListenAddrs()[0]
	b, err := dialKafka(t.Context(), address, quiet(t))
	if err != nil {
		return nil, err
	}
	down := func() error {
		err := b.Close()
		c.Close()
		return err
	}
	return &standing{outside: b, down: down, up: func(ctx context.Context) (outside, error) {
		_, text, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		port, err := strconv.Atoi(text)
		if err == nil {
			_, err = server(kfake.Ports(port))
		}
		if err != nil {
			return nil, err
		}
		return dialKafka(ctx, address, slog.New(slog.DiscardHandler))
	}}, nil
}

func standingRabbit(t testing.TB) (*standing, error) {
	server := rabbittest.New(t)
	b, err := rabbitAt(t, server.URL(), "standing")
	if err != nil {
		return nil, err
	}
	down := func() error { return errors.Join(b.Close(), server.Stop()) }
	return &standing{outside: b, down: down, up: func(ctx context.Context) (outside, error) {
		if err := server.Restart(); err != nil {
			return nil, err
		}
		return dialAddress(ctx, b.address())
	}}, nil
}

package rabbitbroker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
)

// blockedError is why a server takes no messages.
type blockedError struct{ reason string }

func (e *blockedError) Error() string {
	return fmt.Sprintf("the server takes no messages because it is short of something (%s): free memory or disk there, or raise its limit", e.reason)
}

// errRefused is the answer of a queue that does not take a message.
var errRefused = errors.New("a queue refuses the message for now: one that is bound to the exchange may be full (x-max-length with x-overflow reject-publish) or have lost most of its copies: see rabbitmqctl list_queues")

// errLost is what a connection says that ended without a reason.
var errLost = errors.New("the connection was lost")

// errClosed is that nothing can be done any more.
var errClosed = fmt.Errorf("the broker is closed: %w", pulse.ErrClosed)

// is tells that err is this answer of the server.
func is(err error, code int) bool {
	e, ok := errors.AsType[*amqp.Error](err)
	return ok && e.Code == code
}

// failed wraps what the client says.
func failed(op string, err error) error {
	if errors.Is(err, pulse.ErrBroker) || errors.Is(err, pulse.ErrInvalid) || errors.Is(err, pulse.ErrClosed) {
		return fmt.Errorf("rabbitbroker: %s: %w", op, err)
	}
	return fmt.Errorf("rabbitbroker: %s: %w: %s%w", op, pulse.ErrBroker, advice(err), err)
}

// advice says what people can do about what the client says.
func advice(err error) string {
	text := err.Error()
	net, isNet := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return ""
	case errors.Is(err, amqp.ErrCredentials) || is(err, amqp.AccessRefused) && strings.Contains(text, "refused using authentication mechanism"):
		return "the connection ended while logging in, as it does when the server does not let a user in: check user and password: "
	case is(err, amqp.NotAllowed):
		return "the virtual host is not there, or not for this user: make it by rabbitmqctl add_vhost, grant it by rabbitmqctl set_permissions, or name another one behind HOST:PORT/: "
	case is(err, amqp.AccessRefused):
		return "the user lacks a right: grant it by rabbitmqctl set_permissions: until then it waits in the log: "
	case is(err, amqp.PreconditionFailed) && strings.Contains(text, "inequivalent arg"):
		return "it is there, and made for something else: remove it, or give another name by Exchange: "
	case strings.Contains(text, "tls: ") || strings.Contains(text, "x509: "):
		return "the two do not agree about certificates: check TLS, and that amqps:// and its port are meant: "
	case is(err, amqp.FrameError) || is(err, amqp.ChannelError):
		return "the connection was lost, it is made again when it is needed: "
	case isNet && net.Op == "dial":
		return "nobody listens there: check the address, and that the server runs: "
	}
	return ""
}

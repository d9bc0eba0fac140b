package rabbitbroker

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
)

// message makes the message of an event, in binary mode. Its headers are valid until the next one is made. The error is why it cannot be
// published, ever.
func (p *Publisher) message(env *pulse.Envelope) (msg amqp.Publishing, err error) {
	limit := p.Capabilities().MaxBytes
	if n := env.Size(); n > limit {
		return msg, fmt.Errorf("it takes %d bytes, the server %d", n, limit)
	}
	clear(p.headers)
	contentType, err := cloudevents.SetProperties(p.headers, env)
	if err != nil {
		return msg, err
	}
	if err := p.checkHeaders(env, contentType); err != nil {
		return msg, err
	}
	id, _ := p.headers[cloudevents.PropertyID].(string)
	return amqp.Publishing{
		Headers: p.headers, ContentType: contentType, DeliveryMode: amqp.Persistent, MessageId: id, Body: env.Data,
	}, nil
}

// checkHeaders checks what AMQP cannot carry: long names, and headers that do not fit into one frame, for which the server would end the
// connection. Only extensions can do that.
func (p *Publisher) checkHeaders(env *pulse.Envelope, contentType string) error {
	if len(env.Extensions) == 0 && env.Size()-len(env.Data) < p.frame/2 {
		return nil
	}
	const others, field = 1 << 10, 1 + 1 + 4 // the message's other properties; what a name and a value take beside themselves
	if len(contentType) > maxShort {
		return fmt.Errorf("the content type has %d bytes, AMQP takes %d", len(contentType), maxShort)
	}
	size := others
	for name, value := range p.headers {
		if len(name) > maxShort {
			return fmt.Errorf("the extension %.40q has a name of more than %d bytes", name, maxShort-len(cloudevents.PropertyPrefix))
		}
		text, _ := value.(string)
		size += len(name) + field + max(len(text), 8)
	}
	if size > p.frame {
		return fmt.Errorf("its headers take %d bytes, the server %d: set frame_max there", size, p.frame)
	}
	return nil
}

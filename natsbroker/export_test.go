package natsbroker

import "github.com/nats-io/nats.go"

// InProcess connects another client to an embedded server.
func InProcess(b *Broker) nats.Option { return nats.InProcessServer(b.server) }

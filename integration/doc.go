// Package integration tests Pulse against the software of others that its users meet, which is too heavy for the released module: the
// CloudEvents SDKs for Go and JavaScript, clients of Kafka and RabbitMQ in other languages, and the bad networks that toxiproxy makes,
// before each of the brokers. The command rivals measures Pulse next to others, and the command brokers the relay next to the clients of the
// brokers. Nothing imports it, and it is never released.
package integration

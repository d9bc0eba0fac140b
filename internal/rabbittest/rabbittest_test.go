package rabbittest

import (
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestServer stops, kills and wipes a server: what is durable is there again, or gone.
func TestServer(t *testing.T) {
	begin := time.Now()
	s := New(t)
	t.Logf("ready after %s", time.Since(begin))
	has := func() bool {
		t.Helper()
		conn, err := amqp.Dial(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if ch.ExchangeDeclarePassive("e", "topic", true, false, false, false, nil) == nil {
			return true
		}
		if ch, err = conn.Channel(); err == nil {
			err = ch.ExchangeDeclare("e", "topic", true, false, false, false, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if has() {
		t.Error("a new server has something")
	}
	must(s.Stop())
	must(s.Restart())
	if !has() {
		t.Error("a stopped server has lost something")
	}
	must(s.Kill())
	must(s.Wipe())
	must(s.Restart())
	if has() {
		t.Error("a wiped server has something")
	}
}

package natsbroker_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/natsbroker"
)

// login is a server that lets in only who has the right credentials.
type login struct {
	server       server.Options
	right, wrong natsbroker.Options
}

func logins(t *testing.T) map[string]login {
	t.Helper()
	user, stranger := newKey(t, nkeys.CreateUser), newKey(t, nkeys.CreateUser)
	userSeed, strangerSeed := secret(t, seed(t, user)), secret(t, seed(t, stranger))
	operator, account, other := newKey(t, nkeys.CreateOperator), newKey(t, nkeys.CreateAccount), newKey(t, nkeys.CreateAccount)
	forServer, forClient := certificates(t)
	return map[string]login{
		"token": {
			server: server.Options{Authorization: "chalk"},
			right:  natsbroker.Options{Auth: natsbroker.Auth{Token: "chalk"}},
			wrong:  natsbroker.Options{Auth: natsbroker.Auth{Token: "cheese"}},
		},
		"user and password": {
			server: server.Options{Username: "school", Password: "chalk"},
			right:  natsbroker.Options{Auth: natsbroker.Auth{User: "school", Password: "chalk"}},
			wrong:  natsbroker.Options{Auth: natsbroker.Auth{User: "school", Password: "cheese"}},
		},
		"nothing where something is needed": {
			server: server.Options{Username: "school", Password: "chalk"},
			right:  natsbroker.Options{Auth: natsbroker.Auth{User: "school", Password: "chalk"}},
		},
		"NKey": {
			server: server.Options{Nkeys: []*server.NkeyUser{{Nkey: public(t, user)}}},
			right:  natsbroker.Options{Auth: natsbroker.Auth{NKeyFile: userSeed}},
			wrong:  natsbroker.Options{Auth: natsbroker.Auth{NKeyFile: strangerSeed}},
		},
		"credentials file": {
			server: withAccount(t, operator, account),
			right:  natsbroker.Options{Auth: natsbroker.Auth{CredentialsFile: credentials(t, account, user)}},
			wrong:  natsbroker.Options{Auth: natsbroker.Auth{CredentialsFile: credentials(t, other, stranger)}},
		},
		"client certificate": {
			server: server.Options{TLSConfig: forServer, TLSTimeout: 10, TLSVerify: true},
			right:  natsbroker.Options{TLS: forClient},
			wrong:  natsbroker.Options{TLS: &tls.Config{RootCAs: forClient.RootCAs}},
		},
		"server certificate": {
			server: server.Options{TLSConfig: forServer, TLSTimeout: 10, TLSVerify: true},
			right:  natsbroker.Options{TLS: forClient},
			wrong:  natsbroker.Options{TLS: &tls.Config{Certificates: forClient.Certificates}},
		},
	}
}

// Who has the right credentials publishes and reads; who has wrong ones is told what to look at.
func TestCredentials(t *testing.T) {
	t.Parallel()
	for name, l := range logins(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := run(t, &l.server)
			l.right.Log, l.wrong.Log = quiet, quiet
			b, err := natsbroker.Connect(t.Context(), s.ClientURL(), &l.right)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			publish(t, b.Publisher(), events(1, 20))
			expect(t, open(t, b, pulse.FeedConfig{}), through(1, 20)...)
			wrong, err := natsbroker.Connect(t.Context(), s.ClientURL(), &l.wrong)
			if err == nil {
				wrong.Close()
			}
			about := "check Auth"
			if l.server.TLSConfig != nil {
				about = "check TLS"
			}
			if !errors.Is(err, pulse.ErrBroker) || !strings.Contains(err.Error(), about) {
				t.Errorf("wrong credentials give %v, want an ErrBroker that says %q", err, about)
			}
		})
	}
}

// A file that is not there or is another one is refused before anything is tried.
func TestCredentialFiles(t *testing.T) {
	t.Parallel()
	s := run(t, &server.Options{})
	missing, other := filepath.Join(t.TempDir(), "missing"), secret(t, []byte("hello"))
	for name, auth := range map[string]natsbroker.Auth{
		"no credentials file": {CredentialsFile: missing},
		"no NKey file":        {NKeyFile: missing},
		"another NKey file":   {NKeyFile: other},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := natsbroker.Connect(t.Context(), s.ClientURL(), &natsbroker.Options{Log: quiet, Auth: auth})
			if err == nil {
				b.Close()
			}
			if !errors.Is(err, pulse.ErrInvalid) || !strings.Contains(err.Error(), "file") {
				t.Errorf("error is %v, want an ErrInvalid that names the file", err)
			}
		})
	}
}

// The credentials are changed at the server while it restarts: the relay keeps its events and says why, and goes on once they are right.
func TestCredentialsChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	options := func(password string, port int) *server.Options {
		return &server.Options{Username: "school", Password: password, StoreDir: dir, Port: port}
	}
	s := run(t, options("chalk", 0))
	port := s.Addr().(*net.TCPAddr).Port
	b, err := natsbroker.Connect(t.Context(), s.ClientURL(), &natsbroker.Options{Log: quiet, Auth: natsbroker.Auth{User: "school", Password: "chalk"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	w := newWorld(t, b)
	w.Emit(t, 50)
	eventually(t, "handling", func() bool { return w.Handled(t) >= 400 })
	s.Shutdown()
	s.WaitForShutdown()
	s = run(t, options("cheese", port))
	w.Emit(t, 50)
	eventually(t, "a pause that says why", func() bool { return strings.Contains(w.Relay(t).PauseReason, "check Auth") })
	if at := w.Relay(t).Cursor.Position; at > 800 {
		t.Errorf("the relay is at %d", at)
	}
	s.Shutdown()
	s.WaitForShutdown()
	run(t, options("chalk", port))
	w.AllNoted(t, 100)
}

// Who lacks a right is told which, and does not wait.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		publish, subscribe string // the subject that may not be
		try                func(t *testing.T, b *natsbroker.Broker) error
	}{
		"to look at the stream": {publish: "$JS.API.STREAM.INFO.*"},
		"to make the stream":    {publish: "$JS.API.STREAM.CREATE.*"},
		"to get answers":        {subscribe: "_INBOX.>"},
		"to publish one event": {publish: "pulse.0.lesson.published", try: func(t *testing.T, b *natsbroker.Broker) error {
			return b.Publisher().PublishBatch(t.Context(), events(1, 1))[0].Err
		}},
		"to publish many": {publish: "pulse.0.>", try: func(t *testing.T, b *natsbroker.Broker) error {
			return b.Publisher().PublishBatch(t.Context(), events(1, 100))[99].Err
		}},
		"to make consumers": {publish: "$JS.API.CONSUMER.CREATE.>", try: func(t *testing.T, b *natsbroker.Broker) error {
			return openOnce(t, b)
		}},
		"to list consumers": {publish: "$JS.API.CONSUMER.NAMES.*", try: func(t *testing.T, b *natsbroker.Broker) error {
			return openOnce(t, b)
		}},
		"to fetch": {publish: "$JS.API.CONSUMER.MSG.NEXT.>", try: func(t *testing.T, b *natsbroker.Broker) error {
			return openOnce(t, b)
		}},
		"to acknowledge": {publish: "$JS.ACK.>", try: func(t *testing.T, b *natsbroker.Broker) error {
			publish(t, b.Publisher(), events(1, 10))
			f := open(t, b, pulse.FeedConfig{})
			if err := f.Ack(t.Context(), receipts(take(t, f, 10))); err != nil {
				return err
			}
			_, err := f.Fetch(t.Context(), 10)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := &server.User{Username: "school", Password: "chalk", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Deny: slices.DeleteFunc([]string{c.publish}, empty)},
				Subscribe: &server.SubjectPermission{Deny: slices.DeleteFunc([]string{c.subscribe}, empty)},
			}}
			s := run(t, &server.Options{Users: []*server.User{user}})
			start := time.Now()
			b, err := natsbroker.Connect(t.Context(), s.ClientURL(), &natsbroker.Options{Log: quiet, Auth: natsbroker.Auth{User: "school", Password: "chalk"}})
			if err == nil {
				defer b.Close()
				if c.try == nil {
					t.Fatal("connected")
				}
				err = c.try(t, b)
			}
			if !errors.Is(err, pulse.ErrBroker) || !strings.Contains(err.Error(), "lacks a right") || !strings.Contains(err.Error(), "ermissions") {
				t.Errorf("error is %v, want an ErrBroker that says which right is missing", err)
			}
			if took := time.Since(start); took > 8*time.Second { // waiting for answers takes longer
				t.Errorf("that took %v", took)
			}
		})
	}
}

func empty(s string) bool { return s == "" }

// openOnce opens a feed and fetches from it.
func openOnce(t *testing.T, b *natsbroker.Broker) error {
	f, err := b.Source().Open(t.Context(), pulse.FeedConfig{Subscription: "mailer"})
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = f.Fetch(ctx, 10)
	return err
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func public(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func seed(t *testing.T, pair nkeys.KeyPair) []byte {
	t.Helper()
	s, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// secret writes a file.
func secret(t *testing.T, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// withAccount are the options of a server that trusts an operator, who has one account with JetStream.
func withAccount(t *testing.T, operator, account nkeys.KeyPair) server.Options {
	t.Helper()
	resolver := &server.MemAccResolver{}
	add := func(account nkeys.KeyPair, limits jwt.JetStreamLimits) {
		t.Helper()
		claims := jwt.NewAccountClaims(public(t, account))
		claims.Limits.JetStreamLimits = limits
		text, err := claims.Encode(operator)
		if err == nil {
			err = resolver.Store(public(t, account), text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	system := newKey(t, nkeys.CreateAccount)
	add(system, jwt.JetStreamLimits{})
	add(account, jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1})
	return server.Options{TrustedKeys: []string{public(t, operator)}, AccountResolver: resolver, SystemAccount: public(t, system)}
}

// credentials writes the file of a user of an account.
func credentials(t *testing.T, account, user nkeys.KeyPair) string {
	t.Helper()
	text, err := jwt.NewUserClaims(public(t, user)).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(text, seed(t, user))
	if err != nil {
		t.Fatal(err)
	}
	return secret(t, file)
}

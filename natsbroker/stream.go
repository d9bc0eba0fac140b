package natsbroker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edupulse-live/pulse"
)

// ensureStream returns the stream as it is, and makes it when it is gone.
func (b *Broker) ensureStream(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	look := func(ctx context.Context) (jetstream.Stream, error) { return b.js.Stream(ctx, b.opts.Stream) }
	s, err := ask(ctx, b, look)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = b.createStream(ctx)
		if err == nil {
			err = b.awaitStream(ctx)
		}
	}
	if why := b.shutOut.Load(); err != nil && why != nil {
		err = *why
	}
	if err != nil {
		return nil, failed("stream "+b.opts.Stream, err)
	}
	info := s.CachedInfo()
	if info.Cluster != nil {
		b.leader.Store(info.Cluster.Leader)
	}
	return info, nil
}

// createStream makes the stream. The server may not be done yet with removing one of this name: then it cannot make the files for a moment.
func (b *Broker) createStream(ctx context.Context) (jetstream.Stream, error) {
	const storeFailed, patience = 10049, time.Second
	for until := time.Now().Add(patience); ; sleep(ctx, askPause) {
		s, err := ask(ctx, b, func(ctx context.Context) (jetstream.Stream, error) { return b.js.CreateStream(ctx, b.streamConfig()) })
		if !hasCode(err, storeFailed) || time.Now().After(until) {
			return s, err
		}
	}
}

// stream looks at the stream, which should be there.
func (b *Broker) stream(ctx context.Context) (jetstream.Stream, error) {
	return certain(ctx, b, func(ctx context.Context) (jetstream.Stream, error) { return b.js.Stream(ctx, b.opts.Stream) })
}

// awaitStream waits until messages published here reach the new stream: in a cluster the server that this is a connection to learns
// a little later that there is one. It asks with a message that no stream accepts, since it is for one of another name.
func (b *Broker) awaitStream(ctx context.Context) error {
	const pause = 10 * time.Millisecond
	probing, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer b.publishing.add(end)()
	probe := nats.NewMsg(b.opts.Prefix + ".probe")
	probe.Header.Set(jetstream.ExpectedStreamHeader, b.opts.Stream+"-not-this-one")
	for {
		_, err := b.nc.RequestMsgWithContext(probing, probe)
		switch {
		case ctx.Err() != nil:
			return errNoStream
		case probing.Err() != nil:
			return nil // this user may not publish everything: what it may not will be said then
		case !errors.Is(err, nats.ErrNoResponders):
			return err
		}
		sleep(ctx, pause)
	}
}

// setUp makes the stream, or makes an existing one what it has to be.
func (b *Broker) setUp(ctx context.Context) error {
	info, err := b.ensureStream(ctx)
	if err != nil {
		return err
	}
	want, err := b.reconcile(info.Config)
	if err != nil || want == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err = ask(ctx, b, func(ctx context.Context) (jetstream.Stream, error) { return b.js.UpdateStream(ctx, *want) }); err != nil {
		return failed("update stream "+b.opts.Stream, err)
	}
	return nil
}

func (b *Broker) streamConfig() jetstream.StreamConfig {
	maxBytes := cmp.Or(b.opts.MaxBytes, b.free, -1)
	return jetstream.StreamConfig{
		Name:               b.opts.Stream,
		Description:        "Events published by Pulse, which is their only writer.",
		Subjects:           []string{b.opts.Prefix + ".>"},
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardNew,
		Storage:            jetstream.FileStorage,
		MaxAge:             b.opts.MaxAge,
		MaxBytes:           maxBytes,
		Replicas:           b.opts.Replicas,
		Duplicates:         100 * time.Millisecond, // the least there is: no message has an id to compare
		AllowAtomicPublish: true,
	}
}

// reconcile returns what the configuration of an existing stream has to be; nil when it is so.
func (b *Broker) reconcile(have jetstream.StreamConfig) (*jetstream.StreamConfig, error) {
	want, found := b.streamConfig(), have
	var wrong []string
	refuse := func(bad bool, why string) {
		if bad {
			wrong = append(wrong, why)
		}
	}
	refuse(have.Storage != want.Storage, "it is not stored in files")
	refuse(have.Retention != want.Retention, "it does not keep messages by limits alone")
	refuse(!slices.Equal(have.Subjects, want.Subjects), fmt.Sprintf("its subjects are %s, not %s", have.Subjects, want.Subjects))
	refuse(have.Mirror != nil || len(have.Sources) > 0, "it copies another stream")
	refuse(have.Sealed, "it is sealed")
	refuse(have.NoAck, "it does not answer")
	refuse(have.SubjectTransform != nil, "it changes subjects")
	if wrong != nil {
		return nil, fmt.Errorf("natsbroker: %w: there is a stream %s made for something else: %s: choose another name, or delete it",
			pulse.ErrInvalid, have.Name, strings.Join(wrong, "; "))
	}
	if b.opts.MaxBytes == 0 {
		want.MaxBytes = have.MaxBytes
	}
	if have.MaxBytes == want.MaxBytes && have.Discard == want.Discard && have.MaxAge == want.MaxAge && have.Replicas == want.Replicas &&
		have.Duplicates == want.Duplicates && have.AllowAtomicPublish && have.MaxMsgs <= 0 && have.MaxMsgsPerSubject <= 0 && have.MaxMsgSize <= 0 {
		return nil, nil
	}
	found.MaxBytes, found.Discard, found.MaxAge, found.Replicas = want.MaxBytes, want.Discard, want.MaxAge, want.Replicas
	found.Duplicates, found.AllowAtomicPublish = want.Duplicates, true
	found.MaxMsgs, found.MaxMsgsPerSubject, found.MaxMsgSize, found.DiscardNewPerSubject = -1, -1, -1, false
	return &found, nil
}

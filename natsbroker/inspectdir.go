package natsbroker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/edupulse-live/pulse"
)

// lastBlocks is how many files of messages are looked at: the last one may have been begun just now.
const lastBlocks = 2

// InspectDir looks at what an embedded server keeps in dir, whether it runs or not, and changes nothing there: it copies the end of the
// stream into a temporary directory and looks at that.
func InspectDir(ctx context.Context, dir string, o *Options) (State, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return State{}, err
	}
	from := filepath.Join(dir, "jetstream", "$G", "streams", opts.Stream)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return State{Known: true}, nil
	}
	temp, err := os.MkdirTemp("", "pulse-inspect-")
	if err != nil {
		return State{}, failed("inspect "+dir, err)
	}
	defer os.RemoveAll(temp)
	if err := copyEnd(filepath.Join(temp, "jetstream", "$G", "streams", opts.Stream), from); err != nil {
		return State{}, failed("inspect "+dir, err)
	}
	opts.Listen, opts.TLS, opts.Auth = "", nil, Auth{}
	config, err := serverOptions(temp, &opts)
	if err != nil {
		return State{}, err
	}
	srv, err := server.NewServer(config)
	if err != nil {
		return State{}, failed("inspect "+dir, err)
	}
	b := newBroker(opts)
	b.server = srv
	defer b.shutdown()
	srv.SetLoggerV2(logger{opts.Log}, false, false, false)
	srv.Start()
	if !ready(srv) {
		return State{}, fmt.Errorf("natsbroker: inspect %s: %w: what is there could not be read: see the log", dir, pulse.ErrBroker)
	}
	if err := b.dial(ctx, srv.ClientURL()); err != nil {
		return State{}, err
	}
	return b.inspect(ctx)
}

// copyEnd copies what describes a stream and its consumers, and the last of its messages.
func copyEnd(to, from string) error {
	blocks, err := filepath.Glob(filepath.Join(from, "msgs", "*.blk"))
	if err != nil {
		return err
	}
	slices.SortFunc(blocks, func(a, b string) int { return cmp.Compare(blockNumber(a), blockNumber(b)) })
	blocks = blocks[max(0, len(blocks)-lastBlocks):]
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		inside := filepath.Base(filepath.Dir(path)) == "msgs"
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone meanwhile: the server runs
			return nil
		case err != nil || d.IsDir():
			return err
		case inside && !slices.Contains(blocks, path):
			return nil
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyFile(filepath.Join(to, relative), path)
	})
}

func blockNumber(path string) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".blk"))
	return n
}

func copyFile(to, from string) error {
	content, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	return err
}

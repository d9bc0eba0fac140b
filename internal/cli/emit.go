package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/rivo/uniseg"
	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
	"github.com/edupulse-live/pulse/memstore"
)

type emitFlags struct {
	data, key, actor, correlation, causation, id, at string
	version                                          int
}

func newEmitCommand(env *environment) *cobra.Command {
	var f emitFlags
	cmd := &cobra.Command{
		Use:   "emit NAME --data JSON|@FILE|-",
		Short: "Record one event",
		Long: `Emit records one event durably and prints its id and its position in the log.

A name is words of a-z, 0-9, '_' and '-' joined by dots: what happened, in the past tense. The payload is any
JSON value; it is kept byte for byte, without white space around it.

With --id emitting may be repeated safely: the same event again changes nothing, another one under the same id
is refused with exit code 4.`,
		Example: `  pulse emit lesson.published --key lesson-7 --data '{"title":"Fractions"}'
  pulse emit quiz.submitted --data @quiz.json --actor 3f0b8e9a-3c55-4c1e-9d53-0f6a8f1f7d10
  echo '{"points":7}' | pulse emit badge.awarded --data - --json`,
		Args: positional("NAME, such as lesson.published"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := pulse.ValidateName(args[0]); err != nil {
				return usagef("%w", err)
			}
			opts, err := f.options()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("data") {
				return usagef("what does %s say? Give --data '{…}', --data @FILE, or --data - to read it from stdin", args[0])
			}
			data, err := env.readData(cmd.Context(), f.data)
			if err != nil {
				return err
			}
			event := pulse.Raw{Name: args[0], Version: f.version, Key: f.key, Data: data}
			if err := rehearse(cmd.Context(), event, opts); err != nil {
				return err
			}
			return env.withCreated(cmd, func(ctx context.Context, a *app.App) error {
				return env.emit(ctx, a, event, opts)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.data, "data", "d", "", "payload: `JSON`, @FILE, or - for stdin")
	flags.StringVarP(&f.key, "key", "k", "", "ordering `KEY`: events of one key are handled in order")
	flags.StringVar(&f.actor, "actor", "", "who triggered it, a `UUID`")
	flags.StringVar(&f.correlation, "correlation", "", "`ID` of what it belongs to, across services (default the event's own id)")
	flags.StringVar(&f.causation, "causation", "", "`UUID` of the event that led to it")
	flags.StringVar(&f.id, "id", "", "`UUID` of the event (default a new one)")
	flags.StringVar(&f.at, "at", "", "`TIME` when it happened, as for log --since (default now)")
	f.version = 1
	numberVar(flags, &f.version, "version", 1, "version `N` of the payload's shape")
	return cmd
}

// options turns the flags into those of the bus.
func (f *emitFlags) options() ([]pulse.EmitOption, error) {
	actor, err1 := parseUUID("--actor", f.actor)
	causation, err2 := parseUUID("--causation", f.causation)
	id, err3 := parseUUID("--id", f.id)
	at, err4 := parseTime("--at", f.at, time.Now())
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	opts := []pulse.EmitOption{pulse.By(actor), pulse.CausedBy(causation), pulse.At(at), pulse.CorrelatedTo(f.correlation)}
	if f.id != "" {
		opts = append(opts, pulse.ID(id))
	}
	return opts, nil
}

// rehearse emits the event into memory: what only a bus finds wrong with it is found before a store is created for it.
func rehearse(ctx context.Context, event pulse.Raw, opts []pulse.EmitOption) error {
	bus, err := pulse.New(memstore.New(&memstore.Options{MaxEventBytes: maxInput}), &pulse.Options{Source: "/"})
	if err != nil {
		return err
	}
	_, err = bus.Emit(ctx, event, opts...)
	return errors.Join(err, bus.Close())
}

func (env *environment) emit(ctx context.Context, a *app.App, event pulse.Raw, opts []pulse.EmitOption) error {
	info, err := a.Store.Info(ctx)
	if err != nil {
		return err
	}
	id, err := a.Bus.Emit(ctx, event, opts...)
	if errors.Is(err, pulse.ErrUnknown) {
		return fmt.Errorf("%w: emit it again with --id %s", err, id)
	}
	if err != nil {
		return err
	}
	position, err := positionOf(ctx, a.Store, info.Head, id)
	if err != nil {
		env.notef("the event is recorded, but its position could not be read: %v", err)
	}
	if env.json {
		type emitted struct {
			ID       uuid.UUID      `json:"id"`
			Name     string         `json:"name"`
			Position pulse.Position `json:"position,omitempty"` // absent when the event was there before
		}
		return recorded(id, env.printJSON(emitted{id, event.Name, position}))
	}
	switch {
	case position > 0:
		return recorded(id, env.printf("%s at position %d\n", id, position))
	case err == nil:
		env.notef("the event was there already, nothing changed")
	}
	return recorded(id, env.printf("%s\n", id))
}

// recorded says of an error of printing that the event is in the log all the same.
func recorded(id uuid.UUID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the event %s is recorded, do not emit it again but with --id: that could not be printed: %w", id, err)
}

// positionOf looks for an event above a position that was the head before it was emitted; 0 when it is not there.
func positionOf(ctx context.Context, store pulse.Store, after pulse.Position, id uuid.UUID) (pulse.Position, error) {
	if _, err := store.Info(ctx); err != nil { // gives positions, in stores where that is a step of its own
		return 0, err
	}
	for {
		page, err := store.Read(ctx, pulse.Query{After: after})
		if err != nil {
			return 0, err
		}
		for i := range page.Envelopes {
			if page.Envelopes[i].ID == id {
				return page.Envelopes[i].Position, nil
			}
		}
		if page.Next <= after {
			return 0, nil
		}
		after = page.Next
	}
}

// maxInput is more than any store takes as one event, in bytes.
const maxInput = 64 << 20

// readData reads the payload that --data names, without white space around it, and checks it.
func (env *environment) readData(ctx context.Context, arg string) ([]byte, error) {
	data, what := []byte(arg), "--data"
	var err error
	switch {
	case arg == "-":
		what = "stdin"
		data, err = readLimited(newInterruptible(ctx, env.stdin), what)
	case strings.HasPrefix(arg, "@"):
		what = arg[1:]
		data, err = readFile(ctx, what)
	}
	if err != nil {
		return nil, err
	}
	if data = bytes.TrimSpace(data); len(data) == 0 {
		return nil, usagef("%s is empty: the payload is JSON, at least {}", what)
	}
	return data, describeJSONError(pulse.CheckJSON(data), data)
}

func readFile(ctx context.Context, name string) ([]byte, error) {
	file, err := openFile(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	defer file.Close()
	return readLimited(newInterruptible(ctx, file), name)
}

func readLimited(r io.Reader, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read the payload from %s: %w", what, err)
	}
	if len(data) > maxInput {
		return nil, usagef("%w: %s has more than %d bytes: keep large content elsewhere and emit a reference", pulse.ErrTooLarge, what, maxInput)
	}
	return data, nil
}

// describeJSONError shows the place in the payload, and what a shell does to quotes.
func describeJSONError(err error, data []byte) error {
	if err == nil {
		return nil
	}
	if bare := data[0] != '"' && data[0] != '[' && !bytes.Contains(data, []byte(`"`)); bare {
		return usagef("%w\nA text in JSON has double quotes, and the shell takes them away unless single quotes are around them:\n"+
			"--data '\"text\"' or --data '{\"name\":\"text\"}'", err)
	}
	if _, rest, found := strings.Cut(err.Error(), "at byte "); found {
		digits, _, _ := strings.Cut(rest, ":")
		if at, atoiErr := strconv.Atoi(digits); atoiErr == nil {
			return usagef("%w\n%s", err, pointAt(data, at))
		}
	}
	return usagef("%w", err)
}

// pointAt shows what is around a byte of data, with a mark under it.
func pointAt(data []byte, at int) string {
	const before, after = 30, 30
	at = min(at, len(data))
	start := at
	for start > 0 && at-start < before && data[start-1] != '\n' {
		start--
	}
	end := at
	for end < len(data) && end-at < after && data[end] != '\n' {
		end++
	}
	left, right := printable(string(data[start:at])), printable(string(data[at:end]))
	return "  " + left + right + "\n  " + strings.Repeat(" ", uniseg.StringWidth(left)) + "^"
}

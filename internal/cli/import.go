package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// What to do about a bad line.
const (
	onErrorStop = "stop"
	onErrorSkip = "skip"
)

func newImportCommand(env *environment) *cobra.Command {
	var onError string
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Record events from a file of CloudEvents",
		Long: `Import records events from a file, or from stdin, with one CloudEvent 1.0 in JSON on each line. Ids, times of occurrence, keys,
actors, correlations, sources, unknown attributes and the bytes of payloads are kept; positions are given anew,
in the order of the lines.

An import may be interrupted and repeated: an event that is there already changes nothing, and the summary says
how many there were. An event whose id belongs to a different one is a bad line.

With --json the summary is one object, and each bad line an object on stderr.`,
		Example: `  pulse import events.ndjson
  zcat backup.ndjson.gz | pulse import - --on-error skip
  pulse --store sqlite:copy.db import events.ndjson --json`,
		Args: positional("FILE, or - for stdin"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if onError != onErrorStop && onError != onErrorSkip {
				return usagef("--on-error %q: use %s or %s", onError, onErrorStop, onErrorSkip)
			}
			in, size, err := env.openInput(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			return env.withCreated(cmd, func(ctx context.Context, a *app.App) error {
				return env.importEvents(ctx, a, in, size, onError)
			})
		},
	}
	cmd.Flags().StringVar(&onError, "on-error", onErrorStop, "`WHAT` to do at a bad line: stop, or skip it")
	return cmd
}

// openInput opens a file, or stdin for "-". size is -1 when it is not known.
func (env *environment) openInput(ctx context.Context, name string) (in io.ReadCloser, size int64, err error) {
	if name == "-" {
		return io.NopCloser(newInterruptible(ctx, env.stdin)), -1, nil
	}
	file, err := openFile(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = usagef("%s is a directory: name a file", name)
	case !info.Mode().IsRegular():
		return struct { // a pipe, perhaps with nobody at the other end
			io.Reader
			io.Closer
		}{newInterruptible(ctx, file), file}, -1, nil
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func (env *environment) importEvents(ctx context.Context, a *app.App, in io.Reader, size int64, onError string) error {
	info, err := a.Store.Info(ctx)
	if err != nil {
		return err
	}
	bar := env.progress(size)
	im := &importer{app: a}
	im.bad = func(line int, err error) error {
		if onError == onErrorStop {
			return failuref("line %d: %w%s", line, err, adviseLine(line, err))
		}
		_ = bar.Clear()
		env.reportLine(line, err)
		return nil
	}
	reader := io.TeeReader(in, writerFunc(func(b []byte) { _ = bar.Add(len(b)) })) // a bar fails when the file grows, or the terminal is gone
	// The JSON of a payload may be longer than the payload, but not by much.
	err = im.run(ctx, newLineReader(reader, 2*info.MaxBytes+64<<10))
	_ = bar.Finish()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if sumErr := env.printSummary(&im.summary); err == nil {
		err = sumErr
	}
	if err != nil && exitCode(ctx, err) == exitUsage { // the command was right
		err = &exitError{exitFailure, err}
	}
	return err
}

// writerFunc is a writer that does not fail.
type writerFunc func(b []byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// adviseLine says what to do about a file that has no event on a line from the first one on.
func adviseLine(line int, err error) string {
	if line > 1 || !errors.Is(err, pulse.ErrSerialization) {
		return ""
	}
	return "\nA line holds one event. Such lines are made by jq -c '.[]' of an array, and by jq -c . of objects that have several lines each."
}

// reportLine tells of a bad line that is skipped.
func (env *environment) reportLine(line int, err error) {
	if !env.json {
		env.notef("line %d skipped: %v", line, err)
		return
	}
	type badLine struct {
		Line  int    `json:"line"`
		Error string `json:"error"`
	}
	_ = encodeJSON(env.stderr, badLine{line, err.Error()}) // there is nowhere left to say that saying it failed
}

func (env *environment) printSummary(s *importSummary) error {
	if env.json {
		return env.printJSON(s)
	}
	text := fmt.Sprintf("%s read: %d new, %d there already", count(s.Lines, "event"), s.New, s.Known)
	if s.Bad > 0 {
		text += fmt.Sprintf(", %d bad", s.Bad)
	}
	if rest := s.Lines - s.New - s.Known - s.Bad; rest > 0 {
		text += fmt.Sprintf(", %d not stored", rest)
	}
	if !s.Complete {
		text += "; import it again to go on"
	}
	return env.printf("%s\n", text)
}

// progress is a bar on the terminal, or none.
func (env *environment) progress(size int64) *progressbar.ProgressBar {
	if !env.stderrTerminal || env.json {
		return progressbar.DefaultBytesSilent(size)
	}
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(env.stderr), progressbar.OptionSetDescription("import"), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetRenderBlankState(true))
}

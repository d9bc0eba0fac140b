package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/cloudevents"
	"github.com/edupulse-live/pulse/internal/app"
)

func newExportCommand(env *environment) *cobra.Command {
	var f filter
	var output string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write events as CloudEvents, for import and other systems",
		Long: `Export writes the events of the log, as it is when the export begins, with one CloudEvent 1.0 in JSON on each line.
All conditions must hold.

With --output the file appears only when it is complete; an older one stays until then. A pipe or a device is written to
as it is.`,
		Example: `  pulse export --output events.ndjson
  pulse export --name 'quiz.>' --since 7d | gzip > quiz.ndjson.gz
  pulse export | pulse --store sqlite:copy.db import -`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			return env.with(cmd, func(ctx context.Context, a *app.App) error {
				if output == "" {
					_, err := exportEvents(ctx, a, q, env.stdout)
					return err
				}
				n, err := exportFile(ctx, a, q, output)
				if err != nil {
					return err
				}
				if env.json {
					type exported struct {
						Events int    `json:"events"`
						Output string `json:"output"`
					}
					return env.printJSON(exported{n, output})
				}
				return env.printf("%s in %s\n", count(n, "event"), output)
			})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` instead of stdout")
	return cmd
}

// exportEvents writes what q selects of the log as it is now, and returns how many events that were.
func exportEvents(ctx context.Context, a *app.App, q pulse.Query, w io.Writer) (int, error) {
	info, err := a.Store.Info(ctx)
	if err != nil || info.Head == 0 {
		return 0, err
	}
	q.Through = info.Head
	out := bufio.NewWriterSize(w, 256<<10)
	n := 0
	var line []byte
	for e, err := range a.Bus.Log(ctx, q) {
		if err != nil {
			return n, errors.Join(err, out.Flush())
		}
		if line, err = cloudevents.AppendJSON(line[:0], e); err != nil {
			return n, errors.Join(fmt.Errorf("the event at position %d: %w", e.Position, err), out.Flush())
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return n, err
		}
		n++
	}
	return n, out.Flush()
}

// exportFile exports to a file that appears when it is complete. What is no file, such as a pipe, is written to as it is, and a link stays one.
func exportFile(ctx context.Context, a *app.App, q pulse.Query, path string) (n int, err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return exportInto(ctx, a, q, path)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	n, err = exportEvents(ctx, a, q, file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return n, err
	}
	return n, os.Rename(file.Name(), path)
}

// exportInto exports into what cannot be replaced.
func exportInto(ctx context.Context, a *app.App, q pulse.Query, path string) (n int, err error) {
	file, err := openFor(ctx, path, os.O_WRONLY)
	if err != nil {
		return 0, err
	}
	n, err = exportEvents(ctx, a, q, file)
	return n, errors.Join(err, file.Close())
}

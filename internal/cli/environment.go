package cli

import (
	"context"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse/internal/app"
)

// environment is what a command sees of the world: its streams, the environment variables, and the global
// flags once they are parsed. Commands use it in place of the os package, so that tests run them in process.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	stdinTerminal  bool // somebody can be asked
	stdoutTerminal bool // colours and tables fitted to width
	stderrTerminal bool // progress bars
	width          int  // columns of the terminal, 0 when not known

	json bool   // --json: machine-readable output
	file string // --config
}

// config reads the configuration for cmd: flags, then variables, then the file.
func (env *environment) config(cmd *cobra.Command) (app.Config, error) {
	flags := map[string]string{}
	for _, s := range app.Settings() {
		if f := cmd.Flags().Lookup(s.Name); f != nil && f.Changed {
			flags[s.Name] = f.Value.String()
		}
	}
	serves := cmd.Flags().Lookup("listen") != nil // of addServeFlags: a demo has a --broker of its own
	return app.LoadConfig(app.Inputs{Flags: flags, Getenv: env.getenv, File: env.file, Serve: serves})
}

// open opens the configured store and a bus over it. The caller closes it. Unless opts say Create, a store that does
// not exist is an error that says what to do.
func (env *environment) open(cmd *cobra.Command, opts app.OpenOptions) (*app.App, error) {
	cfg, err := env.config(cmd)
	if err != nil {
		return nil, err
	}
	opts.Logger = env.logger(cfg)
	return app.Open(cmd.Context(), cfg, opts)
}

// with opens the configured store, which must exist, runs fn with it and closes it.
func (env *environment) with(cmd *cobra.Command, fn func(ctx context.Context, a *app.App) error) error {
	return env.withStore(cmd, app.OpenOptions{}, fn)
}

// withCreated is with for commands that write events: it creates the store when there is none, and says so.
func (env *environment) withCreated(cmd *cobra.Command, fn func(ctx context.Context, a *app.App) error) error {
	return env.withStore(cmd, app.OpenOptions{Create: true}, func(ctx context.Context, a *app.App) error {
		if a.Created {
			env.notef("created the store %s", a.Config.Store)
		}
		return fn(ctx, a)
	})
}

func (env *environment) withStore(cmd *cobra.Command, opts app.OpenOptions, fn func(ctx context.Context, a *app.App) error) error {
	a, err := env.open(cmd, opts)
	if err != nil {
		return err
	}
	err = fn(cmd.Context(), a)
	if closeErr := a.Close(); err == nil {
		err = closeErr
	}
	return err
}

// logger writes to stderr as the configuration says.
func (env *environment) logger(cfg app.Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == app.LogJSON {
		return slog.New(slog.NewJSONHandler(env.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(env.stderr, opts))
}

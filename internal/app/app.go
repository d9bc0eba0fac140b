package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
	"github.com/edupulse-live/pulse/memstore"
	"github.com/edupulse-live/pulse/sqlitestore"
)

// ErrNoStore: there is no store where the configuration says, and the command does not create one.
var ErrNoStore = errors.New("no store")

// App is an open store with a bus over it.
type App struct {
	Config  Config
	Store   pulse.Store
	Bus     *pulse.Bus
	Created bool // the store was created by Open

	close func() error
}

// OpenOptions say what a command needs of the store.
type OpenOptions struct {
	Create bool // create a store that does not exist
	Memory bool // "memory:" makes sense: nothing is expected to be there, nor to stay
	Logger *slog.Logger
}

// Open opens the store that cfg names. The caller closes the App.
func Open(ctx context.Context, cfg Config, opts OpenOptions) (*App, error) {
	a := &App{Config: cfg}
	var err error
	switch cfg.Store.Kind {
	case KindMemory:
		err = a.openMemory(opts)
	case KindPostgres:
		err = a.openPostgres(ctx, opts)
	default:
		err = a.openSQLite(ctx, opts)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Failpoints != nil {
		if a.Store, err = failpoint.Wrap(a.Store, cfg.Failpoints); err != nil {
			return nil, errors.Join(err, a.close())
		}
	}
	if a.Bus, err = pulse.New(a.Store, &pulse.Options{Source: cfg.Source, Logger: opts.Logger}); err != nil {
		return nil, errors.Join(explainDiverged(cfg.Store, err), a.close())
	}
	return a, nil
}

func (a *App) openMemory(opts OpenOptions) error {
	if !opts.Memory {
		return &ConfigError{[]Problem{{"store", "memory: is gone when this command ends: give a file by --store sqlite:PATH"}}}
	}
	store := memstore.New(nil)
	a.Store, a.Created, a.close = store, true, func() error { return nil }
	return nil
}

func (a *App) openSQLite(ctx context.Context, opts OpenOptions) error {
	path := a.Config.Store.Path
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !opts.Create:
		return fmt.Errorf("%w at %s: create it by emitting an event, or name another by --store sqlite:PATH", ErrNoStore, path)
	case err == nil && info.Size() == 0 && !opts.Create:
		return fmt.Errorf("%w in the empty file %s: create it by emitting an event, or name another by --store sqlite:PATH", ErrNoStore, path)
	}
	a.Created = err != nil || info.Size() == 0
	store, err := sqlitestore.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	a.Store, a.close = store, store.Close
	return nil
}

// Close closes the bus and the store.
func (a *App) Close() error {
	return errors.Join(a.Bus.Close(), a.close())
}

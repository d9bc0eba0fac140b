package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse/internal/app"
	"github.com/edupulse-live/pulse/pgstore"
)

// migrateFlags are what migrate is told.
type migrateFlags struct {
	dryRun, print bool
	grants        string
}

func newMigrateCommand(env *environment) *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make the tables of a log in PostgreSQL, or bring them to this version",
		Long: `Migrate makes the tables of a log in PostgreSQL, or brings them to the version that this program works with. Each step
is one transaction, and any number of processes may migrate at the same time.

Every command that writes events does the same when it starts, if its role may. Where applications should have no such right, run
migrate as the role that is to own the tables, and then the SQL that --grants prints for the role of the applications.

The tables are in the schema pulse, unless the URL of the store ends with ?schema=NAME. A file of SQLite needs no migrate.`,
		Example: `  pulse migrate --store postgres://owner@db/school
  pulse migrate --store postgres://owner@db/school --dry-run
  pulse migrate --store 'postgres://owner@db/school?schema=exams' --print > pulse.sql
  pulse migrate --store postgres://owner@db/school --grants app | psql postgres://owner@db/school`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := env.postgres(cmd)
			if err != nil {
				return err
			}
			if f.grants != "" || cmd.Flags().Changed("grants") {
				if f.dryRun || f.print {
					return usagef("--grants only prints: leave out --dry-run and --print")
				}
				return env.printGrants(spec, f.grants)
			}
			return env.migrate(cmd.Context(), spec, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "tell what would be done, and do nothing; with --print, print its SQL")
	flags.BoolVar(&f.print, "print", false, "print the SQL for an empty database, for somebody else to run; asks no server")
	flags.StringVar(&f.grants, "grants", "", "print the SQL that gives this `ROLE` what an application needs, and do nothing")
	return cmd
}

// postgres is the configured store, which must be one in PostgreSQL.
func (env *environment) postgres(cmd *cobra.Command) (app.StoreSpec, error) {
	cfg, err := env.config(cmd)
	if err == nil && cfg.Store.Kind != app.KindPostgres {
		err = usagef("%s is for PostgreSQL, and the store is %s: give --store postgres://USER@HOST/DATABASE", cmd.CommandPath(), cfg.Store)
	}
	return cfg.Store, err
}

func (env *environment) printGrants(spec app.StoreSpec, role string) error {
	sql, err := app.Grants(spec, role)
	if err != nil {
		return err
	}
	if env.json {
		type grants struct {
			SQL string `json:"sql"`
		}
		return env.printJSON(grants{sql})
	}
	return env.printf("%s", sql)
}

func (env *environment) migrate(ctx context.Context, spec app.StoreSpec, f migrateFlags) error {
	var steps []pgstore.Migration
	var err error
	switch {
	case f.dryRun:
		steps, err = app.PlanMigrations(ctx, spec)
	case f.print:
		steps, err = app.AllMigrations(spec)
	default:
		steps, err = app.Migrate(ctx, spec)
	}
	if err != nil {
		return err
	}
	if env.json {
		return env.printMigrationsJSON(spec, steps, f)
	}
	if f.print {
		return env.printMigrationsSQL(steps)
	}
	if len(steps) == 0 {
		return env.printf("nothing to do: the tables in schema %s of %s are of this version\n", spec.Schema(), spec)
	}
	what := "migrated"
	if f.dryRun {
		what = "would migrate"
	}
	for _, m := range steps {
		if err := env.printf("%s schema %s of %s to version %d: %s\n", what, spec.Schema(), spec, m.Version, m.Name); err != nil {
			return err
		}
	}
	return nil
}

// printMigrationsSQL prints what psql can run as it is.
func (env *environment) printMigrationsSQL(steps []pgstore.Migration) error {
	for _, m := range steps {
		if err := env.printf("-- version %d: %s\nBEGIN;\n%s\nCOMMIT;\n", m.Version, m.Name, m.SQL); err != nil {
			return err
		}
	}
	return nil
}

func (env *environment) printMigrationsJSON(spec app.StoreSpec, steps []pgstore.Migration, f migrateFlags) error {
	type migration struct {
		Version int    `json:"version"`
		Name    string `json:"name"`
		SQL     string `json:"sql,omitempty"`
	}
	type result struct {
		Store      string         `json:"store"`
		Schema     pgstore.Schema `json:"schema"`
		Done       bool           `json:"done"`
		Migrations []migration    `json:"migrations"`
	}
	r := result{Store: spec.String(), Schema: spec.Schema(), Done: !f.dryRun && !f.print, Migrations: []migration{}}
	for _, m := range steps {
		entry := migration{Version: m.Version, Name: m.Name}
		if f.print {
			entry.SQL = m.SQL
		}
		r.Migrations = append(r.Migrations, entry)
	}
	return env.printJSON(r)
}

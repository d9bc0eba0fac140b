package cli

import (
	"github.com/spf13/cobra"

	"github.com/edupulse-live/pulse/internal/app"
	"github.com/edupulse-live/pulse/pgstore"
)

func newReconcileCommand(env *environment) *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Make a log usable that was restored into another PostgreSQL cluster",
		Long: `Reconcile is for a log in PostgreSQL that was restored or copied into another cluster, by pg_dump or a logical copy. There
the log takes events but gives them no place, because the numbers of transactions in it mean nothing: status, log and serve
refuse it. Reconcile begins a new epoch of the log and gives every event that had no position one, in the order in which they were emitted.

Before, see to it that only one copy is written to from now on. Run it as the owner of the tables. On a log that needs nothing of
it, it does nothing; a standby that was promoted needs nothing of it.

What the restored copy lacks it cannot know. A relay or a subscription that is further than the log stops and says so; see
docs/postgres.md.`,
		Example: `  pulse reconcile --store postgres://owner@db/school
  pulse reconcile --store postgres://owner@db/school --yes --json`,
		Args: positional(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := env.postgres(cmd)
			if err != nil {
				return err
			}
			foreign, err := app.Foreign(cmd.Context(), spec)
			if err != nil {
				return err
			}
			if !foreign {
				return env.printReconciled(spec, foreign, app.Reconciled{})
			}
			if err := env.confirm(cmd.Context(), yes, "begin a new epoch of the log, in which this copy goes on"); err != nil {
				return err
			}
			r, err := app.Reconcile(cmd.Context(), spec)
			if err != nil {
				return err
			}
			return env.printReconciled(spec, foreign, r)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (env *environment) printReconciled(spec app.StoreSpec, needed bool, r app.Reconciled) error {
	if env.json {
		type result struct {
			Store  string         `json:"store"`
			Schema pgstore.Schema `json:"schema"`
			Needed bool           `json:"needed"`
			Events int            `json:"events"`
			Epoch  int            `json:"epoch,omitempty"`
		}
		return env.printJSON(result{spec.String(), spec.Schema(), needed, r.Events, r.Epoch})
	}
	if !needed {
		return env.printf("nothing to do: the log in schema %s of %s was written in this cluster\n", spec.Schema(), spec)
	}
	return env.printf("the log in schema %s of %s is in epoch %d; %s got a position\n", spec.Schema(), spec, r.Epoch, count(r.Events, "waiting event"))
}

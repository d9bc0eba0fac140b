//go:build unix

package guarantee

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse/internal/app"
)

// The doctor is asked about the restored log: it fails, and says what to do.
func TestG14_DoctorTellsOfARestoredLog(t *testing.T) {
	t.Parallel()
	eachDurable(t, func(t *testing.T, k kind) {
		for name, more := range restores() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := restored(t, k, onNATS, more, true)
				r.shut(t)
				cfg := app.Config{Store: app.StoreSpec{Kind: k.name, Path: r.location()}, Source: "/"}
				cfg.Broker = app.BrokerSpec{Kind: app.BrokerNATS, URL: r.broker.address()}
				cfg.Broker.NATS.Auth.Token = brokerToken
				var said []string
				err := app.Doctor(t.Context(), cfg, app.OpenOptions{Logger: slog.New(slog.DiscardHandler)}, func(f app.Finding) error {
					if f.Verdict == app.Fail {
						said = append(said, f.Check+": "+f.Detail)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if all := strings.Join(said, "\n"); !strings.Contains(all, "restored") {
					t.Errorf("the doctor says nothing of it: %q", all)
				}
			})
		}
	})
}

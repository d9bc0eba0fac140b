//go:build unix

package guarantee

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/failpoint"
)

// At each point of its way the relay fails once, or twice in a row, before it has done its work or after: all arrives all the same.
func TestG04_StoredIsPublishedThroughErrors(t *testing.T) {
	t.Parallel()
	eachSystem(t, func(t *testing.T, k kind, system string) {
		for _, point := range slices.Concat(failpoint.PublisherNames(), []string{failpoint.AdvanceBefore, failpoint.AdvanceAfter, failpoint.LeaseAfter}) {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				first := 1
				if strings.HasPrefix(point, "advance.") || strings.HasPrefix(point, "publish.") {
					first = 2
				}
				points := fmt.Sprintf("%s=error@%d,%s=error@%d", point, first, point, first+1)
				b := newOutside(t, system)
				w := open(t, newPlace(t, k), points)
				w.publish(t, b, points)
				stop := w.run(t)
				for i := range 8 {
					w.emit(t, numbered(20*(i+1), relayKeys)[20*i:]...)
					await(t, "some are published", func() bool { return w.state(t, pulse.RelayName(destination)).Cursor.Position > pulse.Position(20*i) })
				}
				w.drain(t)
				stop()
				if found := w.compare(t, stranger(t, b)); found.distinct != 160 || found.owed != 0 {
					t.Errorf("%+v", found)
				}
			})
		}
	})
}

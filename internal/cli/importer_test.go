package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/edupulse-live/pulse"
	"github.com/edupulse-live/pulse/internal/app"
)

// openMemory is an App over a store in memory; wrap may put something between.
func openMemory(t testing.TB, wrap func(pulse.Store) pulse.Store) *app.App {
	t.Helper()
	a, err := app.Open(t.Context(), app.Config{Store: app.StoreSpec{Kind: app.KindMemory}}, app.OpenOptions{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		a.Store = wrap(a.Store)
		if a.Bus, err = pulse.New(a.Store, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// eventLines writes CloudEvents with the ids from first to last.
func eventLines(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, `{"specversion":"1.0","id":"0190c1f2-8a3b-7cde-9f01-%012x","source":"/x","type":"a.b","subject":"k%d","data":%d}`+"\n", i, i%7, i)
	}
	return b.String()
}

// importAll imports text and returns what became of it and which lines were bad.
func importAll(ctx context.Context, a *app.App, text string) (importSummary, []int, error) {
	var bad []int
	im := &importer{app: a, bad: func(line int, _ error) error {
		bad = append(bad, line)
		return nil
	}}
	err := im.run(ctx, newLineReader(strings.NewReader(text), 1<<20))
	return im.summary, bad, err
}

// payloads are the payloads of the log in its order.
func payloads(t testing.TB, a *app.App) string {
	t.Helper()
	var all []string
	for e, err := range a.Bus.Log(t.Context(), pulse.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(e.Data))
	}
	return strings.Join(all, " ")
}

func TestImportKeepsTheOrderAcrossChunks(t *testing.T) {
	a := openMemory(t, nil)
	const n = 2*chunkEvents + 7
	s, bad, err := importAll(t.Context(), a, eventLines(1, n))
	if err != nil || len(bad) > 0 || s != (importSummary{Lines: n, New: n, Complete: true}) {
		t.Fatalf("%+v, bad %v, error %v", s, bad, err)
	}
	var want []string
	for i := 1; i <= n; i++ {
		want = append(want, fmt.Sprint(i))
	}
	if payloads(t, a) != strings.Join(want, " ") {
		t.Error("the log is not in the order of the lines")
	}
}

// TestImportCounts imports what is partly there, in chunks that are wholly, partly and not known.
func TestImportCounts(t *testing.T) {
	a := openMemory(t, nil)
	if _, _, err := importAll(t.Context(), a, eventLines(1, chunkEvents+20)); err != nil {
		t.Fatal(err)
	}
	s, _, err := importAll(t.Context(), a, eventLines(1, 2*chunkEvents+5)+eventLines(3, 4))
	if want := (importSummary{Lines: 2*chunkEvents + 7, New: chunkEvents - 15, Known: chunkEvents + 22, Complete: true}); err != nil || s != want {
		t.Errorf("%+v, error %v, want %+v", s, err, want)
	}
}

// TestImportCountsBesideOthers counts only its own events while somebody else emits.
func TestImportCountsBesideOthers(t *testing.T) {
	var a *app.App
	store := &meddler{before: func() {
		if _, err := a.Bus.Emit(t.Context(), pulse.Raw{Name: "x.y", Data: []byte(`0`)}); err != nil {
			t.Error(err)
		}
	}}
	a = openMemory(t, func(s pulse.Store) pulse.Store { store.Store = s; return store })
	s, _, err := importAll(t.Context(), a, eventLines(1, 10)+eventLines(5, 6))
	if err != nil || s.New != 10 || s.Known != 2 {
		t.Errorf("%+v, error %v", s, err)
	}
	if got := payloads(t, a); !strings.HasPrefix(got, "0 1 2") {
		t.Errorf("nobody else has emitted: %s", got)
	}
}

// meddler does something before a batch is appended.
type meddler struct {
	pulse.Store
	before func()
}

func (m *meddler) Append(ctx context.Context, recs []pulse.Record) error {
	if len(recs) > 1 {
		m.before()
	}
	return m.Store.Append(ctx, recs)
}

func TestImportFindsTheCulprits(t *testing.T) {
	a := openMemory(t, nil)
	if _, _, err := importAll(t.Context(), a, eventLines(1, 3)); err != nil {
		t.Fatal(err)
	}
	other := strings.ReplaceAll(eventLines(2, 2), `"data":2`, `"data":"other"`)
	large := `{"specversion":"1.0","id":"large","source":"/x","type":"a.b","data":"` + strings.Repeat("x", 600<<10) + `"}` + "\n"
	huge := `{"specversion":"1.0","id":"huge","source":"/x","type":"a.b","data":"` + strings.Repeat("x", 2<<20) + `"}` + "\n"
	spaced := strings.ReplaceAll(eventLines(9, 9), `"k2"`, `"k 2"`)
	text := eventLines(4, 4) + other + eventLines(5, 5) + large + "\n" + huge + spaced + eventLines(6, 6)
	s, bad, err := importAll(t.Context(), a, text)
	if err != nil || fmt.Sprint(bad) != "[2 4 6 7]" || s != (importSummary{Lines: 7, New: 3, Bad: 4, Complete: true}) {
		t.Errorf("%+v, bad %v, error %v", s, bad, err)
	}
	if got := payloads(t, a); got != "1 2 3 4 5 6" {
		t.Errorf("the log is %s", got)
	}
}

// TestImportStopsBehindWhatIsGood: all lines before the bad one are stored, none after it.
func TestImportStopsBehindWhatIsGood(t *testing.T) {
	stop := errors.New("stop")
	for name, text := range map[string]string{
		"no CloudEvent": eventLines(1, 3) + "{}\n" + eventLines(4, 5),
		"a conflict":    eventLines(1, 3) + strings.ReplaceAll(eventLines(1, 1), `"data":1`, `"data":9`) + eventLines(4, 5),
	} {
		t.Run(name, func(t *testing.T) {
			a := openMemory(t, nil)
			im := &importer{app: a, bad: func(line int, _ error) error {
				if line != 4 {
					t.Errorf("line %d is blamed", line)
				}
				return stop
			}}
			if err := im.run(t.Context(), newLineReader(strings.NewReader(text), 1<<20)); !errors.Is(err, stop) {
				t.Errorf("error %v", err)
			}
			if got := payloads(t, a); got != "1 2 3" {
				t.Errorf("the log is %s", got)
			}
			if im.summary.Complete || im.summary.New != 3 || im.summary.Bad != 1 {
				t.Errorf("%+v", im.summary)
			}
		})
	}
}

// failing fails the appends that fail says.
type failing struct {
	pulse.Store
	fail func() error
}

func (f *failing) Append(ctx context.Context, recs []pulse.Record) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.Store.Append(ctx, recs)
}

// TestImportGoesOnAfterAFailure: a store that fails is no bad line, and a second import completes the first.
func TestImportGoesOnAfterAFailure(t *testing.T) {
	calls := 0
	a := openMemory(t, func(s pulse.Store) pulse.Store {
		return &failing{s, func() error {
			if calls++; calls == 2 {
				return fmt.Errorf("%w: disk full", pulse.ErrStore)
			}
			return nil
		}}
	})
	text := eventLines(1, 3*chunkEvents)
	s, bad, err := importAll(t.Context(), a, text)
	if !errors.Is(err, pulse.ErrStore) || len(bad) > 0 || s.New != chunkEvents || s.Complete {
		t.Fatalf("%+v, bad %v, error %v", s, bad, err)
	}
	if want := fmt.Sprintf("from line %d on", chunkEvents+1); !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	s, _, err = importAll(t.Context(), a, text)
	if err != nil || s.Known != chunkEvents || s.New != 2*chunkEvents || !s.Complete {
		t.Errorf("again: %+v, error %v", s, err)
	}
}

// TestImportInterrupted stops between lines; the second time it completes.
func TestImportInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a := openMemory(t, func(s pulse.Store) pulse.Store {
		return &failing{s, func() error { cancel(); return nil }}
	})
	text := eventLines(1, 3*chunkEvents)
	s, bad, err := importAll(ctx, a, text)
	if !errors.Is(err, context.Canceled) || len(bad) > 0 || s.Complete {
		t.Fatalf("%+v, bad %v, error %v", s, bad, err)
	}
	before := len(strings.Fields(payloads(t, a)))
	if before == 3*chunkEvents || before != s.New {
		t.Errorf("%d events are stored, %d counted", before, s.New)
	}
	if s, _, err = importAll(t.Context(), a, text); err != nil || s.Known != before || s.New+s.Known != 3*chunkEvents {
		t.Errorf("again: %+v, error %v", s, err)
	}
}

func TestImportOfABrokenFile(t *testing.T) {
	a := openMemory(t, nil)
	im := &importer{app: a}
	broken := errors.New("cable cut")
	err := im.run(t.Context(), newLineReader(io.MultiReader(strings.NewReader(eventLines(1, 2)), failingReader{broken}), 1<<20))
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "read line 3") {
		t.Errorf("error %v", err)
	}
	if got := payloads(t, a); got != "1 2" {
		t.Errorf("what was read is not stored: %s", got)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// FuzzImport: no line makes it stop or panic, and what one import stores, another finds.
func FuzzImport(f *testing.F) {
	f.Add([]byte(eventLines(1, 3)))
	f.Add([]byte(`{"specversion":"1.0","id":"x","source":"/x","type":"a.b","data":{"a":[1,"é"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a := openMemory(t, nil)
		first, _, err := importAll(t.Context(), a, string(data))
		if err != nil || first.New+first.Known+first.Bad != first.Lines {
			t.Fatalf("%+v, error %v", first, err)
		}
		second, _, err := importAll(t.Context(), a, string(data))
		if err != nil || second.New != 0 || second.Bad != first.Bad {
			t.Errorf("first %+v, second %+v, error %v", first, second, err)
		}
	})
}

// TestImportOfAFileThatGrows: lines that were written since the size was looked at are imported too, also beside a bar of that size.
func TestImportOfAFileThatGrows(t *testing.T) {
	for _, size := range []int64{0, 1, 500} {
		a := openMemory(t, nil)
		var stdout, stderr bytes.Buffer
		env := &environment{stdout: &stdout, stderr: &stderr, stderrTerminal: true, getenv: func(string) string { return "" }}
		err := env.importEvents(t.Context(), a, iotest.HalfReader(strings.NewReader(eventLines(1, 2000))), size, onErrorStop)
		if err != nil || stdout.String() != "2000 events read: 2000 new, 0 there already\n" {
			t.Errorf("of %d bytes: %q, %v", size, &stdout, err)
		}
	}
}

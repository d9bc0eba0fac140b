package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"plain text, é, 漢, 👩‍🏫": "plain text, é, 漢, 👩\\u200d🏫",
		"\x1b[31mred":           `\x1b[31mred`,
		"a\nb\tc":               `a\nb\tc`,
		"\u009b31m":             `\u009b31m`,
		"\u202eright to left":   `\u202eright to left`,
		"\xff broken":           "\ufffd broken",
		"\u00a0":                `\u00a0`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
	if got := printableLines("a\n\tb\x1b"); got != "a\n\tb\\x1b" {
		t.Errorf("lines are shown as %q", got)
	}
}

func TestShowPayload(t *testing.T) {
	for in, want := range map[string]string{
		`{ "a" : [ 1 ] }`: `{"a":[1]}`,
		"\"a\u009bb\"":    `"a\u009bb"`,
		`"\n"`:            `"\n"`,
		"no json\x1b":     `no json\x1b`,
	} {
		if got := showPayload(json.RawMessage(in)); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
	if got := showPayload(nil); got != "(purged)" {
		t.Errorf("nothing is shown as %q", got)
	}
}

func TestCut(t *testing.T) {
	for _, tc := range []struct {
		in    string
		width int
		want  string
	}{
		{"lesson", 0, "lesson"},
		{"lesson", 6, "lesson"},
		{"lesson", 5, "less…"},
		{"lesson", 1, "…"},
		{"漢字漢字", 8, "漢字漢字"},
		{"漢字漢字", 7, "漢字漢…"},
		{"漢字漢字", 6, "漢字…"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
		{"ééé", 3, "ééé"},
	} {
		if got := cut(tc.in, tc.width); got != tc.want {
			t.Errorf("%q in %d columns is %q, want %q", tc.in, tc.width, got, tc.want)
		}
	}
}

func TestPad(t *testing.T) {
	if got := pad("漢", 4, false) + "|" + pad("12", 4, true) + "|" + pad("12345", 4, true); got != "漢  |  12|12345" {
		t.Errorf("got %q", got)
	}
}

func TestShowOffset(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "+0s", 1500 * time.Nanosecond: "+1.5µs", 12*time.Millisecond + 345*time.Microsecond: "+12ms", 1234567 * time.Microsecond: "+1.23s",
		time.Hour + 1600*time.Millisecond: "+1h0m2s", -250 * time.Millisecond: "-250ms",
	} {
		if got := showOffset(d); got != want {
			t.Errorf("%d is shown as %s, want %s", d, got, want)
		}
	}
}

func TestShowActor(t *testing.T) {
	if got := showActor(uuid.Nil); got != "" {
		t.Errorf("nobody is shown as %q", got)
	}
	if got := showActor(uuid.MustParse("3f0b8e9a-3c55-4c1e-9d53-0f6a8f1f7d10")); got != "…8f1f7d10" {
		t.Errorf("got %q", got)
	}
}

// TestTableFits fills terminals of all widths and sees no line longer, where that is possible, and the columns under each other.
func TestTableFits(t *testing.T) {
	columns := []column{{title: "N", right: true}, {title: "NAME", most: 30}, {title: "KEY", most: 24}, {title: "TEXT"}}
	rows := [][]string{
		{"1", "lesson.published", "lesson-1", strings.Repeat("x", 100)},
		{"200", strings.Repeat("n", 50), strings.Repeat("漢", 20), ""},
	}
	const narrowest = 3 + gap + least + gap + least + gap + readable
	for width := narrowest; width < 150; width++ {
		var out strings.Builder
		table := (&environment{stdout: &out, width: width}).newTable(columns...)
		for _, r := range rows {
			table.add(append([]string(nil), r...)...)
		}
		if err := table.flush(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if got := displayWidth(strings.TrimSuffix(line, "\n")); got > width {
				t.Fatalf("%d columns in a terminal of %d:\n%s", got, width, out.String())
			}
		}
		first, _, _ := strings.Cut(out.String(), "\n")
		if !strings.Contains(first, "TEXT") {
			t.Fatalf("no titles:\n%s", out.String())
		}
		if width == 149 && !strings.Contains(out.String(), strings.Repeat("n", 29)+"…") {
			t.Errorf("a long cell is not cut at its most:\n%s", out.String())
		}
	}
}

// TestTablesElsewhereAreWhole: what goes to a file or a program is not shortened.
func TestTablesElsewhereAreWhole(t *testing.T) {
	var out strings.Builder
	table := (&environment{stdout: &out}).newTable(column{title: "KEY", most: 24}, column{title: "TEXT"})
	key, text := strings.Repeat("k", 50), strings.Repeat("x", 500)
	table.add(key, text)
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), key+"  "+text+"\n") {
		t.Errorf("cut:\n%s", out.String())
	}
}

func displayWidth(s string) int {
	n := 0
	for cut(s, n+1) != s {
		n++
	}
	return n + 1
}

// TestTableGrows prints bit by bit, as log --follow does: one title, columns that only grow.
func TestTableGrows(t *testing.T) {
	var out strings.Builder
	table := (&environment{stdout: &out}).newTable(column{title: "A"}, column{title: "B"})
	if err := table.flush(); err != nil || out.Len() > 0 {
		t.Fatalf("an empty table prints %q, error %v", out.String(), err)
	}
	for _, cell := range []string{"1", "long", "2"} {
		table.add(cell, "x")
		if err := table.flush(); err != nil {
			t.Fatal(err)
		}
	}
	if want := "A  B\n1  x\nlong  x\n2     x\n"; out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

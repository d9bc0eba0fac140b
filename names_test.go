package pulse

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestValidateName(t *testing.T) {
	long := strings.Repeat("a", maxName)
	for _, name := range []string{
		"lesson", "lesson.published", "a.b.c.d", "quiz_attempt.submitted", "e-mail.sent", "2fa.enabled", "0", "a-", long,
	} {
		if err := ValidateName(name); err != nil {
			t.Errorf("ValidateName(%q) = %v, want nil", name, err)
		}
	}
	for _, tc := range []struct{ name, advice string }{
		{"", "empty"},
		{".", "empty word"},
		{".a", "empty word"},
		{"a.", "empty word"},
		{"a..b", "empty word"},
		{"Lesson.published", "lower case"},
		{"lesson.*", "patterns only"},
		{"lesson.>", "patterns only"},
		{"*", "patterns only"},
		{">", "patterns only"},
		{"lesson published", "not allowed"},
		{"lesson.\x00", "not allowed"},
		{"lesson\n", "not allowed"},
		{"lesson.é", "not allowed"},
		{"lesson/published", "not allowed"},
		{"a\xff", "not allowed"},
		{"-a.b", "begin it with"},
		{"a._b", "begin it with"},
		{long + "a", "at most 255"},
	} {
		err := ValidateName(tc.name)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.advice) {
			t.Errorf("ValidateName(%q) = %v, want an ErrInvalid about %q", tc.name, err, tc.advice)
		}
	}
}

func TestValidatePattern(t *testing.T) {
	for _, p := range []string{"lesson.published", "*", ">", "lesson.*", "lesson.>", "*.published", "*.*", "a.*.c.>", "*.>"} {
		if err := ValidatePattern(p); err != nil {
			t.Errorf("ValidatePattern(%q) = %v, want nil", p, err)
		}
	}
	for _, tc := range []struct{ pattern, advice string }{
		{"", "empty"},
		{">.a", "put it last"},
		{"a.>.b", "put it last"},
		{"a.b*", "stand alone"},
		{"a.**", "stand alone"},
		{"a.x>", "stand alone"},
		{"A.*", "lower case"},
		{"a.*.", "empty word"},
		{"a. *", "not allowed"},
	} {
		err := ValidatePattern(tc.pattern)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.advice) {
			t.Errorf("ValidatePattern(%q) = %v, want an ErrInvalid about %q", tc.pattern, err, tc.advice)
		}
	}
}

func TestMatchName(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"lesson.published", "lesson.published", true},
		{"lesson.published", "lesson.publishe", false},
		{"lesson.publishe", "lesson.published", false},
		{"lesson", "lesson.published", false},
		{"lesson.published", "lesson", false},
		{"*", "lesson", true},
		{"*", "lesson.published", false},
		{">", "lesson", true},
		{">", "", false},
		{"*", "", false},
		{"a.*", "a.", false},
		{">", "lesson.published.again", true},
		{"lesson.*", "lesson.published", true},
		{"lesson.*", "lesson", false},
		{"lesson.*", "lesson.published.again", false},
		{"lesson.*", "lessons.published", false},
		{"lesson.>", "lesson.published", true},
		{"lesson.>", "lesson.published.again", true},
		{"lesson.>", "lesson", false},
		{"lesson.>", "lessons.published", false},
		{"*.published", "lesson.published", true},
		{"*.published", "lesson.draft.published", false},
		{"*.*", "lesson.published", true},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{"a.*.>", "a.b.c.d", true},
		{"a.*.>", "a.b", false},
	} {
		if got := MatchName(tc.pattern, tc.name); got != tc.want {
			t.Errorf("MatchName(%q, %q) = %v, want %v", tc.pattern, tc.name, got, tc.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = MatchName("lesson.*.>", "lesson.draft.published") }); n != 0 {
		t.Errorf("MatchName allocates %v times, want 0", n)
	}
}

func TestOverlap(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.b", "a", false},
		{"a.*", "*.b", true},
		{"a.*", "a.b.c", false},
		{"a.*", "b.*", false},
		{">", "a", true},
		{">", "*.*", true},
		{"a.>", "a", false},
		{"a.>", "a.b.c", true},
		{"a.>", "*.b", true},
		{"a.>", "b.>", false},
		{"a.b.>", "*.*", false},
		{"*.>", "a", false},
	} {
		if got := overlap(tc.a, tc.b); got != tc.want {
			t.Errorf("overlap(%q, %q) = %v, want %v", tc.a, tc.b, got, tc.want)
		}
		if got := overlap(tc.b, tc.a); got != tc.want {
			t.Errorf("overlap(%q, %q) = %v, want %v", tc.b, tc.a, got, tc.want)
		}
	}
}

// A small alphabet makes every name up to four words enumerable, so match and overlap can be checked against
// their definitions instead of against chosen cases.
func TestMatchAndOverlapAgainstTheirDefinitions(t *testing.T) {
	var names []string
	for level, n := []string{""}, 0; n < 4; n++ {
		var next []string
		for _, prefix := range level {
			for _, w := range []string{"a", "b"} {
				next = append(next, strings.TrimPrefix(prefix+"."+w, "."))
			}
		}
		names, level = append(names, next...), next
	}
	rng := rand.New(rand.NewPCG(1, 2))
	both := 0
	for range 3000 {
		p, q := randomPattern(rng), randomPattern(rng)
		shared := false
		for _, name := range names {
			mp := matchByDefinition(strings.Split(p, "."), strings.Split(name, "."))
			if MatchName(p, name) != mp {
				t.Fatalf("MatchName(%q, %q) = %v", p, name, !mp)
			}
			shared = shared || mp && MatchName(q, name)
		}
		if overlap(p, q) != shared {
			t.Fatalf("overlap(%q, %q) = %v, but among all names that is %v", p, q, !shared, shared)
		}
		if shared {
			both++
		}
	}
	if both < 300 || both > 2700 {
		t.Errorf("%d of 3000 pairs overlap: the patterns are one-sided", both)
	}
}

func matchByDefinition(pattern, name []string) bool {
	switch {
	case len(pattern) == 0:
		return len(name) == 0
	case pattern[0] == ">":
		return len(name) > 0
	case len(name) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == name[0]) && matchByDefinition(pattern[1:], name[1:])
}

func randomPattern(rng *rand.Rand) string {
	words := make([]string, 1+rng.IntN(3))
	for i := range words {
		words[i] = []string{"a", "b", "*"}[rng.IntN(3)]
	}
	if rng.IntN(3) == 0 {
		words = append(words, ">")
	}
	return strings.Join(words, ".")
}

func TestValidateKeyAndCorrelation(t *testing.T) {
	for _, s := range []string{"", "42", "018f-a", "school/7", "straße", "日本", "👩‍🏫", "\ufffd", strings.Repeat("k", maxText)} {
		if err := errors.Join(validateKey(s), validateCorrelation(s)); err != nil {
			t.Errorf("%q is refused: %v", s, err)
		}
	}
	for _, tc := range []struct{ key, advice string }{
		{"a b", "no spaces"},
		{"a\u00a0b", "no spaces"},
		{"a\u2028b", "no spaces"},
		{"a*", "no spaces"},
		{">", "no spaces"},
		{"a\tb", "control"},
		{"a\x7f", "control"},
		{"a\u0085", "control"},
		{"\x00", "control"},
		{"\ufffe", "control"},
		{"\ufdd0", "control"},
		{"\U0010ffff", "control"},
		{"a\xff", "not UTF-8"},
		{"\xed\xa0\x80", "not UTF-8"},
		{strings.Repeat("k", maxText+1), "at most 512"},
	} {
		for what, err := range map[string]error{"key": validateKey(tc.key), "correlation id": validateCorrelation(tc.key)} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.advice) || !strings.Contains(err.Error(), what) {
				t.Errorf("%s %q: %v, want an ErrInvalid about %q", what, tc.key, err, tc.advice)
			}
		}
	}
}

func TestValidateText(t *testing.T) {
	if err := validateText("source", "/school of > *", 14); err != nil {
		t.Errorf("spaces and wildcards are text, but: %v", err)
	}
	if err := validateText("source", "/school", 6); !errors.Is(err, ErrInvalid) {
		t.Errorf("7 bytes of 6: %v, want ErrInvalid", err)
	}
	if err := validateText("source", "a\nb", 6); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error %q repeats a line break", err)
	}
}

func TestValidateTrace(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, s := range []string{
		"", good, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
		"cc" + good[2:], "cc" + good[2:] + "-what-the-future-brings",
	} {
		if err := validateTrace(s); err != nil {
			t.Errorf("validateTrace(%q) = %v, want nil", s, err)
		}
	}
	for name, s := range map[string]string{
		"short":             good[:54],
		"version 00 longer": good + "-00",
		"version ff":        "ff" + good[2:],
		"upper case":        strings.ToUpper(good),
		"no hex":            "0g" + good[2:],
		"zero trace id":     "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"zero parent id":    "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"other separator":   strings.ReplaceAll(good, "-", "_"),
		"flags no hex":      good[:53] + "zz",
		"future, no dash":   "cc" + good[2:] + "x",
		"future, control":   "cc" + good[2:] + "-\n",
		"future, too long":  "cc" + good[2:] + "-" + strings.Repeat("x", maxText),
		"leading space":     " " + good,
	} {
		if err := validateTrace(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: validateTrace(%q) = %v, want ErrInvalid", name, s, err)
		}
	}
}

func TestErrorsDoNotRepeatWholeInputs(t *testing.T) {
	if err := ValidateName(strings.Repeat("a", 1<<20)); len(err.Error()) > 300 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

func BenchmarkMatchName(b *testing.B) {
	for b.Loop() {
		if !MatchName("lesson.*", "lesson.published") {
			b.Fatal("no match")
		}
	}
}

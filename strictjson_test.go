package pulse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

const lessonJSON = `{"lesson_id":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b11","course_id":"018f4e1c-7b1e-7c3a-9a51-3f0a6f2d9b12",` +
	`"title":"Fractions and \"decimals\"","tags":["maths","grade-5","r\u00e9vision"],"length":{"minutes":45,"pages":12.5},` +
	`"published":true,"reviewer":null,"revision":3,"note":"See also the lesson about percentages, which comes after this one."}`

// nested40 has more open members than the scanner keeps on its stack.
var nested40 = strings.Repeat(`{"a":`, 40) + `{"b":1,"c":2}` + strings.Repeat("}", 40)

func object(members int) string {
	var b strings.Builder
	for i := range members {
		fmt.Fprintf(&b, `%c"m%d":%d`, "{,"[min(i, 1)], i, i)
	}
	return b.String() + "}"
}

func TestCheckJSONAccepts(t *testing.T) {
	for _, s := range []string{
		`null`, `true`, `false`, `0`, `-0`, `1`, `-12.50e+3`, `1E9`, `0.1e-7`, `""`, `"a"`, `[]`, `{}`, ` [ 1 , 2 ] `, "\t\r\n1\n",
		`{"a":1,"A":2}`, `{"":1}`, `{"a":{"a":{"a":1}}}`, `[{"a":1},{"a":1}]`, `{"a":{"b":1},"b":{"a":1}}`,
		`"\"\\\/\b\f\n\r\t\u0000\uABCD\uabcd"`, `"\ud83d\ude00"`, "\"😀\u2028\u007f\"", "{\"\u00e9\":1,\"e\u0301\":2}",
		strings.Repeat("[", 64) + strings.Repeat("]", 64),
		strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64),
		`[` + nested40 + `,` + nested40 + `]`,
		object(16), object(17), object(500), lessonJSON,
	} {
		if err := CheckJSON([]byte(s)); err != nil {
			t.Errorf("CheckJSON(%.80q) = %v, want nil", s, err)
		}
	}
}

func TestCheckJSONRefuses(t *testing.T) {
	for _, tc := range []struct {
		json string
		at   int
		why  string
	}{
		{``, 0, "ends where a value"},
		{`  `, 2, "ends where a value"},
		{`{"a":`, 5, "ends where a value"},
		{`1 2`, 2, "exactly one"},
		{`{}{}`, 2, "exactly one"},
		{"\ufeff1", 0, "want a value"},
		{`tru`, 0, "misspelt"},
		{`nulL`, 0, "misspelt"},
		{`NaN`, 0, "want a value"},
		{`'a'`, 0, "want a value"},
		{`+1`, 0, "want a value"},
		{`.5`, 0, "want a value"},
		{`-`, 1, "want a digit"},
		{`01`, 0, "begins with 0"},
		{`-01`, 1, "begins with 0"},
		{`1.`, 2, "after the decimal point"},
		{`1.e3`, 2, "after the decimal point"},
		{`1e`, 2, "exponent"},
		{`1e+`, 3, "exponent"},
		{`[1,]`, 3, "want a value"},
		{`[1 2]`, 3, "want ',' or ']'"},
		{`[1`, 2, "want ',' or ']'"},
		{`{"a":1,}`, 7, "member name"},
		{`{"a" 1}`, 5, "want ':'"},
		{`{"a":1 "b":2}`, 7, "want ',' or '}'"},
		{`{"a":1]`, 6, "want ',' or '}'"},
		{`{a:1}`, 1, "member name"},
		{`{`, 1, "member name"},
		{`"a`, 2, "does not end"},
		{`"a\`, 2, "unknown escape"},
		{`"\x41"`, 1, "unknown escape"},
		{`"\u12g4"`, 1, "four hexadecimal"},
		{`"\u12`, 1, "four hexadecimal"},
		{"\"a\nb\"", 2, "control character"},
		{"\"\x00\"", 1, "control character"},
		{"\"\x1f\"", 1, "control character"},
		{"\"a\xffb\"", 2, "not UTF-8"},
		{"\"é\xed\xa0\x80\"", 3, "not UTF-8"},
		{"{\"\xc0\x80\":1}", 2, "not UTF-8"},
		{`"\ud800"`, 1, "surrogate"},
		{`"\udc00"`, 1, "surrogate"},
		{`"\udc00\udc00"`, 1, "surrogate"},
		{`"\ud800\ud800"`, 1, "surrogate"},
		{`"\ud800A"`, 1, "surrogate"},
		{`"\ud800\n"`, 1, "surrogate"},
		{`{"\udfff":1}`, 2, "surrogate"},
		{`{"a":1,"a":2}`, 7, "twice"},
		{`{"a":1,"\u0061":2}`, 7, "twice"},
		{`{"\u0061":1,"a":2}`, 12, "twice"},
		{`{"\u0061":1,"\u0061":2}`, 12, "twice"},
		{`{"/":1,"\/":2}`, 7, "twice"},
		{`{"":1,"":2}`, 6, "twice"},
		{`{"😀":1,"\ud83d\uDE00":2}`, 10, "twice"},
		{`[{"b":{"a":1},"b":2}]`, 14, "twice"},
		{`{"x":[{"a":1,"b":{},"a":1}]}`, 20, "twice"},
		{strings.TrimSuffix(object(16), "}") + `,"m0":1}`, len(object(16)), "twice"},
		{strings.TrimSuffix(object(16), "}") + `,"m15":1}`, len(object(16)), "twice"},
		{strings.TrimSuffix(object(17), "}") + `,"m0":1}`, len(object(17)), "twice"},
		{strings.TrimSuffix(object(500), "}") + `,"m3\u0030":1}`, len(object(500)), "twice"},
		{strings.Repeat(`{"a":`, 40) + `{"b":1,"b":2}`, 207, "twice"},
		{`[` + nested40 + `,` + strings.Repeat(`{"b":`, 40) + `{"x":1,"x":2}`, 2 + len(nested40) + 207, "twice"},
		{strings.Repeat("[", 65) + strings.Repeat("]", 65), 64, "deeper than 64"},
		{strings.Repeat(`{"a":`, 65), 320, "deeper than 64"},
		{strings.Repeat(`[`, 1<<20), 64, "deeper than 64"},
	} {
		err := CheckJSON([]byte(tc.json))
		want := fmt.Sprintf("at byte %d: ", tc.at)
		if !errors.Is(err, ErrSerialization) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("CheckJSON(%.60q) = %v, want an ErrSerialization %q about %q", tc.json, err, want, tc.why)
		}
	}
}

func TestCheckJSONAllocatesNothing(t *testing.T) {
	data := []byte(lessonJSON)
	if n := testing.AllocsPerRun(100, func() { _ = CheckJSON(data) }); n != 0 {
		t.Errorf("CheckJSON of a usual payload allocates %v times, want 0", n)
	}
}

// lenientFault finds what encoding/json accepts and Pulse does not, in another way than the scanner: through the decoder's
// tokens. "" when there is nothing.
func lenientFault(data []byte) string {
	if !utf8.Valid(data) {
		return "utf8"
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var names []map[string]bool // nil for an array
	isName := false
	for {
		tok, err := dec.Token()
		if err != nil {
			break
		}
		if s, ok := tok.(string); ok && isName {
			if names[len(names)-1][s] {
				return "duplicate"
			}
			names[len(names)-1][s], isName = true, false
			continue
		}
		switch tok {
		case json.Delim('{'):
			names = append(names, map[string]bool{})
		case json.Delim('['):
			names = append(names, nil)
		case json.Delim('}'), json.Delim(']'):
			names = names[:len(names)-1]
		}
		if len(names) > maxDepth {
			return "depth"
		}
		isName = len(names) > 0 && names[len(names)-1] != nil
	}
	return ""
}

// loneSurrogate replaces well-formed pairs, then looks for what is left. Only for texts encoding/json accepts.
func loneSurrogate(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++
		if data[i] != 'u' {
			continue
		}
		switch hex := strings.ToLower(string(data[i+1 : i+3])); {
		case hex >= "dc" && hex <= "df":
			return true
		case hex >= "d8" && hex <= "db":
			rest := strings.ToLower(string(data[i+5 : min(i+9, len(data))]))
			if len(rest) < 4 || rest[:3] != `\ud` || rest[3] < 'c' || rest[3] > 'f' {
				return true
			}
			i += 6
		}
	}
	return false
}

func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{
		lessonJSON, `{"a":1,"\u0061":2}`, `"\ud83d\ude00"`, `"\ud800"`, `[1,2,{"a":[]}]`, "\"\xff\"", `-0.5e+3`, ` {"a" : null } `,
		object(20), strings.Repeat("[", 65) + strings.Repeat("]", 65), `"\\ud800"`, `{"a":{"b":1,"b":2}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := CheckJSON(data)
		if !json.Valid(data) {
			if err == nil {
				t.Fatalf("%q accepted, and is no JSON", data)
			}
			return
		}
		want := lenientFault(data)
		if want == "" && loneSurrogate(data) {
			want = "surrogate"
		}
		if (err != nil) != (want != "") {
			t.Fatalf("CheckJSON(%q) = %v, fault by definition: %q", data, err, want)
		}
	})
}

func BenchmarkCheckJSON(b *testing.B) {
	data := []byte(lessonJSON)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckJSON(data); err != nil {
			b.Fatal(err)
		}
	}
}

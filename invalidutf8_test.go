package pulse

import (
	"bytes"
	"encoding/json"
	"testing"
)

const badText = "caf\xe9"

type (
	namedText  string
	textKey    struct{ s string }
	ownJSON    struct{ Inner string }
	ownPointer struct{ Inner string }
	embedded   struct{ Note string }
	answer     struct {
		Text  string
		Marks map[string]string
		Next  *answer
	}
)

func (k textKey) MarshalText() ([]byte, error)   { return []byte(k.s), nil }
func (ownJSON) MarshalJSON() ([]byte, error)     { return []byte(`"own"`), nil }
func (*ownPointer) MarshalText() ([]byte, error) { return []byte("own"), nil }

func TestFindInvalidUTF8(t *testing.T) {
	type quiz struct {
		Title   string
		Answers []answer
	}
	for name, tc := range map[string]struct {
		v    any
		path string
	}{
		"string":                     {badText, ""},
		"field":                      {quiz{Title: badText}, "Title"},
		"pointer":                    {&quiz{Title: badText}, "Title"},
		"named string":               {struct{ T namedText }{badText}, "T"},
		"in a slice":                 {quiz{Answers: []answer{{}, {Text: badText}}}, "Answers[1].Text"},
		"in an array":                {[2]string{"", badText}, "[1]"},
		"through pointers":           {quiz{Answers: []answer{{Next: &answer{Text: badText}}}}, "Answers[0].Next.Text"},
		"map value":                  {answer{Marks: map[string]string{"q1": badText}}, `Marks["q1"]`},
		"map name":                   {answer{Marks: map[string]string{badText: ""}}, `Marks["caf\xe9"]`},
		"map with numbers for names": {map[int]string{7: badText}, `["7"]`},
		"map name by MarshalText":    {map[textKey]int{{badText}: 1}, `["caf\xe9"]`},
		"interface":                  {map[string]any{"a": []any{1, nil, badText}}, `["a"][2]`},
		"by MarshalText":             {struct{ K textKey }{textKey{badText}}, "K"},
		"in an embedded struct":      {struct{ embedded }{embedded{badText}}, "embedded.Note"},
		"in an embedded pointer":     {struct{ *embedded }{&embedded{badText}}, "embedded.Note"},
	} {
		b, err := json.Marshal(tc.v)
		if err != nil || !bytes.Contains(b, []byte(`\ufffd`)) {
			t.Errorf("%s: encoding/json gives %s, %v: the case tests nothing", name, b, err)
		}
		if path, found := findInvalidUTF8(tc.v); !found || path != tc.path {
			t.Errorf("%s: found %v at %q, want it at %q", name, found, path, tc.path)
		}
	}
}

func TestFindInvalidUTF8LeavesAloneWhatJSONDoesNotReplace(t *testing.T) {
	cycle := &answer{Text: "fine"}
	cycle.Next = cycle
	for name, v := range map[string]any{
		"nil":            nil,
		"nil pointer":    (*answer)(nil),
		"replacement":    "caf\ufffd",
		"backslash text": `\ufffd`,
		"bytes":          struct{ B []byte }{[]byte(badText)},
		"ignored": struct {
			T string `json:"-"`
		}{badText},
		"unexported":        struct{ t string }{badText},
		"embedded string":   struct{ namedText }{badText},
		"own JSON":          struct{ O ownJSON }{ownJSON{badText}},
		"own text, pointer": &struct{ O ownPointer }{ownPointer{badText}},
		"nil marshaler":     struct{ O *ownPointer }{},
		"cycle":             cycle,
	} {
		if path, found := findInvalidUTF8(v); found {
			t.Errorf("%s: found at %q", name, path)
		}
	}
}

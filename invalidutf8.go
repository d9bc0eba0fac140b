package pulse

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// findInvalidUTF8 returns the path of the first string in v that is not UTF-8, such as "Answers[2].Text". encoding/json writes
// \ufffd in place of the bad bytes and says nothing; Emit, which promises the payload as given, refuses instead. It looks
// where encoding/json looks, and may look at fields that a shadowing field hides from encoding/json.
func findInvalidUTF8(v any) (path string, found bool) {
	return invalidIn(reflect.ValueOf(v), "", 0)
}

func invalidIn(v reflect.Value, path string, depth int) (string, bool) {
	const deepest = 1000 // encoding/json looks for cycles from here on, and fails on them before we are asked
	if !v.IsValid() || depth > deepest {
		return "", false
	}
	if text, own := marshalsItself(v); own {
		return path, !utf8.ValidString(text)
	}
	switch v.Kind() {
	case reflect.String:
		return path, !utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		return invalidIn(v.Elem(), path, depth+1)
	case reflect.Struct:
		return invalidInStruct(v, path, depth)
	case reflect.Map:
		return invalidInMap(v, path, depth)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return "", false // base64, or numbers
		}
		for i := range v.Len() {
			if where, found := invalidIn(v.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1); found {
				return where, true
			}
		}
	}
	return "", false
}

func invalidInStruct(v reflect.Value, path string, depth int) (string, bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("json") == "-" || !f.IsExported() && !embeddedStruct(f) {
			continue
		}
		if where, found := invalidIn(v.Field(i), strings.TrimPrefix(path+"."+f.Name, "."), depth+1); found {
			return where, true
		}
	}
	return "", false
}

// embeddedStruct tells the one kind of unexported field whose own fields encoding/json writes.
func embeddedStruct(f reflect.StructField) bool {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return f.Anonymous && t.Kind() == reflect.Struct
}

func invalidInMap(v reflect.Value, path string, depth int) (string, bool) {
	for entry := v.MapRange(); entry.Next(); {
		name := entry.Key().String()
		if entry.Key().Kind() != reflect.String {
			name = fmt.Sprint(entry.Key())
			if text, own := marshalsItself(entry.Key()); own {
				name = text
			}
		}
		where := fmt.Sprintf("%s[%q]", path, name)
		if !utf8.ValidString(name) {
			return where, true
		}
		if where, found := invalidIn(entry.Value(), where, depth+1); found {
			return where, true
		}
	}
	return "", false
}

// marshalsItself tells a value whose methods and not whose fields encoding/json asks, and the text it will write for
// it: none for a json.Marshaler, whose bytes encoding/json does not replace.
func marshalsItself(v reflect.Value) (text string, own bool) {
	if !v.CanInterface() || v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer && v.IsNil() {
		return "", false
	}
	if v.CanAddr() && v.Kind() != reflect.Pointer {
		v = v.Addr() // methods on the pointer count where encoding/json can reach the pointer
	}
	switch m := v.Interface().(type) {
	case json.Marshaler:
		return "", true
	case encoding.TextMarshaler:
		b, err := m.MarshalText()
		return string(b), err == nil
	}
	return "", false
}

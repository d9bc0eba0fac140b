package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// number is the value of a flag that takes a whole number, least or more. One that is not given keeps its default, which may be less.
type number[T int | int64] struct {
	at    *T
	least T
}

// numberVar adds a flag that takes a whole number. What at holds is its default.
func numberVar[T int | int64](flags *pflag.FlagSet, at *T, name string, least T, usage string) {
	flags.Var(number[T]{at, least}, name, usage)
}

// String is the number as it is.
func (n number[T]) String() string {
	if n.at == nil { // pflag asks the zero value too
		return ""
	}
	return strconv.FormatInt(int64(*n.at), 10)
}

// Type names what is wanted, where the usage does not.
func (number[T]) Type() string { return "N" }

// Set takes what was given.
func (n number[T]) Set(s string) error {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || T(v) < n.least || int64(T(v)) != v {
		return fmt.Errorf("give a whole number, %d or more", n.least)
	}
	*n.at = T(v)
	return nil
}

// explainValue says what a flag takes, in place of what the package says that failed to read it.
func explainValue(e *pflag.InvalidValueError) error {
	wants := e.Unwrap().Error()
	switch e.GetFlag().Value.Type() {
	case "bool":
		wants = "give true or false, or the flag alone"
	case "duration":
		wants = "give a time with its unit, such as 90s, 5m or 2h"
	case "float64":
		wants = "give a number, such as 20 or 0.5"
	case "int64Slice":
		wants = "give a whole number, or several with commas between them"
	}
	return usagef("--%s %q: %s", e.GetFlag().Name, e.GetValue(), wants)
}

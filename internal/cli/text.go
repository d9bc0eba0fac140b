package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/rivo/uniseg"
)

// timeLayout is how times are shown: UTC, so that they mean the same to everybody and --since takes them.
const timeLayout = "2006-01-02T15:04:05Z"

func showTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// showActor is the end of the actor's id: the beginning of a version 7 UUID is a clock.
func showActor(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	s := id.String()
	return "…" + s[len(s)-8:]
}

// printable shows s on one line without anything a terminal would obey: what is in events comes from anybody.
func printable(s string) string {
	return escape(s, func(r rune) bool { return unicode.IsPrint(r) })
}

// printableLines is printable for text of several lines.
func printableLines(s string) string {
	return escape(s, func(r rune) bool { return unicode.IsPrint(r) || r == '\n' || r == '\t' })
}

func escape(s string, plain func(rune) bool) string {
	clean := true
	for _, r := range s {
		if !plain(r) || r == unicode.ReplacementChar { // it may stand for bytes that are no UTF-8
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if plain(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// showPayload is the payload on one line.
func showPayload(data json.RawMessage) string {
	if data == nil {
		return "(purged)"
	}
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return printable(string(data))
	}
	return printable(b.String())
}

// cut shortens s to width columns of a terminal; width 0 is no limit.
func cut(s string, width int) string {
	if width <= 0 || len(s) <= width || uniseg.StringWidth(s) <= width {
		return s
	}
	var b strings.Builder
	used := 0
	for g := uniseg.NewGraphemes(s); g.Next(); {
		if used += g.Width(); used > width-1 {
			break
		}
		b.WriteString(g.Str())
	}
	return b.String() + "…"
}

// pad fills s with spaces up to width columns.
func pad(s string, width int, right bool) string {
	fill := strings.Repeat(" ", max(0, width-uniseg.StringWidth(s)))
	if right {
		return fill + s
	}
	return s + fill
}

// count says "1 event", "2 events".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// showOffset is a duration as people say it, with a sign.
func showOffset(d time.Duration) string {
	sign := "+"
	if d < 0 {
		sign, d = "-", -d
	}
	switch {
	case d >= time.Hour:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	case d >= 10*time.Millisecond:
		d = d.Round(time.Millisecond)
	}
	return sign + d.String()
}

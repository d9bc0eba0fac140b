package pulse

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Cursor is how far a relay, projection or subscription has come in a log. Its text form is
// "epoch/position/commitment", the commitment in hexadecimal and empty when it is not known.
type Cursor struct {
	Epoch      int      // counts restores and failovers of the log; 1 in a log that never had one
	Position   Position // the last position done; 0 before the first
	Commitment [32]byte // that of the event at Position: tells a log that was replaced; zero when not known
}

// String returns the text form.
func (c Cursor) String() string {
	known := ""
	if c.Commitment != ([32]byte{}) {
		known = hex.EncodeToString(c.Commitment[:])
	}
	return fmt.Sprintf("%d/%d/%s", c.Epoch, c.Position, known)
}

// MarshalText returns the text form.
func (c Cursor) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the text form, exactly as String writes it. The error is an ErrInvalid.
func (c *Cursor) UnmarshalText(text []byte) error {
	parsed, ok := parseCursor(string(text))
	if !ok || parsed.String() != string(text) {
		return fmt.Errorf("%w: cursor %.100q: write it as epoch/position/commitment, for example 1/42/", ErrInvalid, text)
	}
	*c = parsed
	return nil
}

func parseCursor(text string) (c Cursor, ok bool) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return c, false
	}
	epoch, err1 := strconv.ParseInt(parts[0], 10, 32)
	position, err2 := strconv.ParseInt(parts[1], 10, 64)
	commitment, err3 := hex.DecodeString(parts[2])
	if err1 != nil || err2 != nil || err3 != nil || epoch < 1 || position < 0 {
		return c, false
	}
	c.Epoch, c.Position = int(epoch), Position(position)
	return c, copy(c.Commitment[:], commitment) == len(commitment) && (len(commitment) == 0 || len(commitment) == 32)
}

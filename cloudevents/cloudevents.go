// Package cloudevents writes envelopes as CloudEvents 1.0 and reads them back.
//
// The JSON format (structured mode, one event on one line) maps so:
//
//	envelope      attribute        JSON
//	ID            id               string, a UUID
//	Source        source           string, required
//	Name          type             string
//	Key           subject          string
//	OccurredAt    time             string, RFC 3339 in UTC with microseconds
//	Actor         actor            string, a UUID
//	Correlation   correlationid    string
//	Causation     causationid      string, a UUID
//	Position      position         string of digits: a CloudEvents Integer ends at 2^31-1
//	Version       dataversion      number, to 2^31-1
//	RecordedAt    recordedat       string, as time
//	Trace         traceparent      string
//	Commitment    commitment       string, base64 as CloudEvents has its Binary: standard alphabet, padded
//	Data          data             the JSON itself
//	              datacontenttype  "application/json"
//	              specversion      "1.0"
//	Extensions    all others       string, boolean or number
//
// Zero values are left out. Data stands in the line byte for byte; where it has line breaks, or white space around it, it goes as
// data_base64 instead, so that the line stays one and the bytes stay the same.
//
// # Events of other systems
//
// What has no place in an envelope is kept in its Extensions, a JSON object sorted by name in which each value has the bytes it came
// with, and written again by Marshal. An attribute that is null counts as left out. Two attributes of ours stay there when
// their value is another's: a causationid that is no UUID, and a datacontenttype that is another kind of JSON than application/json.
// Other content than JSON in UTF-8 is refused, and what is no media type. An event without data has the payload null.
//
// An id that is not a UUID in lower case is kept in the extension ceid, and the envelope gets an id derived from source and id:
// a version 5 UUID (RFC 9562) in the namespace 6f1b0f0e-5d0c-4f6a-9b57-3c8d2a41e7d5 of the source, a line feed, and the
// id. The same event has the same id each time it comes.
//
// # Binary mode
//
// Over HTTP and NATS an event can also travel with its attributes in headers, "ce-" before their names and their values percent-encoded, and
// its data as the body, byte for byte: SetRequest, WriteResponse and ReadRequest for HTTP, AppendHeaders and HeaderReader below them. In a
// record of Kafka it is "ce_", the values stand as they are, and the data is the value: AppendRecordHeaders and RecordReader.
// The datacontenttype is the header content-type, as it stands. Headers have no types: the attribute cetyped names the extensions that are
// numbers or booleans. Those of systems that do not write it come as strings. In the JSON format it is read, and not written.
//
// Over AMQP attributes are application properties, which AMQP 0.9.1 calls headers: "cloudEvents_" before their names, values as they
// stand, numbers and booleans as such. SetProperties writes them and HeaderReader.SetProperty reads them, with either of the binding's prefixes.
//
// # Not covered
//
// Batches (application/cloudevents-batch+json) are not read. Whether source and dataschema are URIs is not checked, and
// neither is what only Emit demands, such as a key without spaces.
package cloudevents

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/edupulse-live/pulse"
	"github.com/google/uuid"
)

// ContentType is the media type of what Marshal returns.
const ContentType = "application/cloudevents+json"

// The names of attributes.
const (
	attrSpecVersion     = "specversion"
	attrID              = "id"
	attrSource          = "source"
	attrType            = "type"
	attrSubject         = "subject"
	attrTime            = "time"
	attrDataContentType = "datacontenttype"
	attrActor           = "actor"
	attrCorrelation     = "correlationid"
	attrCausation       = "causationid"
	attrPosition        = "position"
	attrVersion         = "dataversion"
	attrRecordedAt      = "recordedat"
	attrTrace           = "traceparent"
	attrCommitment      = "commitment"
	attrForeignID       = "ceid"

	memberData       = "data"
	memberDataBase64 = "data_base64"
)

const (
	specVersion = "1.0"
	jsonContent = "application/json"
	timeFormat  = "2006-01-02T15:04:05.000000Z"
)

// invalid is the error for a value that is not what its attribute takes.
func invalid(attr, format string, args ...any) error {
	return fmt.Errorf("cloudevents: attribute %s: %w: %s", attr, pulse.ErrInvalid, fmt.Sprintf(format, args...))
}

// derivedID is the id of an event that has another one than a UUID. Neither part can contain a line feed.
func derivedID(source, id string) uuid.UUID {
	space := uuid.UUID{0x6f, 0x1b, 0x0f, 0x0e, 0x5d, 0x0c, 0x4f, 0x6a, 0x9b, 0x57, 0x3c, 0x8d, 0x2a, 0x41, 0xe7, 0xd5}
	return uuid.NewSHA1(space, []byte(source+"\n"+id))
}

// parseUUID reads the one text form Pulse writes: 36 characters, lower case. Others are another system's ids, which
// CloudEvents compares byte by byte. The nil UUID is none.
func parseUUID(s []byte) (id uuid.UUID, ok bool) {
	if len(s) != 36 {
		return uuid.Nil, false
	}
	for _, c := range s {
		if c >= 'A' && c <= 'F' {
			return uuid.Nil, false
		}
	}
	id, err := uuid.ParseBytes(s)
	if err != nil {
		return uuid.Nil, false // id has the digits before the wrong one
	}
	return id, id != uuid.Nil
}

// parseTime reads an RFC 3339 time into UTC and whole microseconds.
func parseTime(s []byte) (time.Time, error) {
	var t time.Time
	if err := t.UnmarshalText(s); err != nil || !strictTime(s) {
		return time.Time{}, errors.New("want an RFC 3339 time such as 2026-03-04T05:06:07.000891Z")
	}
	t = t.UTC().Truncate(time.Microsecond)
	return t, checkTime(t)
}

// strictTime refuses what package time takes and RFC 3339 does not know: an hour of one digit, a comma before the fraction, an
// offset of a day or more.
func strictTime(s []byte) bool {
	const hour, zone = len("2006-01-02T15"), len("+07:00")
	if s[hour] != ':' || bytes.IndexByte(s, ',') >= 0 {
		return false
	}
	offset := string(s[len(s)-zone+1:])
	return s[len(s)-1] == 'Z' || offset < "24" && offset[3:] < "60"
}

func checkTime(t time.Time) error {
	if y := t.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("the year %d in UTC is not between 1 and 9999", y)
	}
	if t.Nanosecond()%1000 != 0 {
		return fmt.Errorf("%s is finer than a microsecond: truncate it", t.Format(time.RFC3339Nano))
	}
	return nil
}

// parseInt reads a whole number of at most max, written the one way Pulse writes it.
func parseInt(s []byte, max int64) (int64, error) {
	n, err := strconv.ParseInt(string(s), 10, 64)
	if err != nil || n < 1 || n > max || s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf("want a whole number from 1 to %d, have %.40q", max, s)
	}
	return n, nil
}

const maxVersion = math.MaxInt32

// checkText checks that s is a CloudEvents String (spec 1.0.2, 3.1): UTF-8 without control characters and noncharacters.
func checkText[T string | []byte](s T) error {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf && c >= ' ' && c != 0x7f {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if r == utf8.RuneError && size == 1 {
			return fmt.Errorf("not UTF-8 at byte %d", i)
		}
		if unicode.IsControl(r) || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
			return fmt.Errorf("%U at byte %d: CloudEvents strings have no control characters", r, i)
		}
		i += size
	}
	return nil
}

// checkName checks the name of an attribute (spec 1.0.2, 3).
func checkName(name []byte) error {
	ok := len(name) > 0
	for _, c := range name {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if !ok {
		return fmt.Errorf("cloudevents: %w: %.40q is no attribute name: use a-z and 0-9 only", pulse.ErrInvalid, name)
	}
	return nil
}

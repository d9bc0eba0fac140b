package cloudevents

import (
	"bytes"
	"strings"

	"github.com/edupulse-live/pulse"
)

// RecordHeader is one header of a Kafka record that has an event in binary mode, where the data stands in the value.
type RecordHeader struct {
	Key   string
	Value []byte
}

// The headers of a record that tell where in its log an event stands.
const (
	RecordPosition   = recordPrefix + attrPosition
	RecordCommitment = recordPrefix + attrCommitment

	recordPrefix = "ce_"
)

// AppendRecordHeaders appends the headers of env as the CloudEvents binding of Kafka has them in binary mode: names are those of the
// table in the package comment behind "ce_", and values are the attributes in UTF-8 as they are (Kafka binding 1.0.2, 3.2.3). The value
// of the record is env.Data and its key env.Key, which the header ce_subject has too. All values share one allocation. Errors
// are those of AppendHeaders.
func AppendRecordHeaders(dst []RecordHeader, env *pulse.Envelope) ([]RecordHeader, error) {
	w := newHeaderWriter(true)
	defer writers.Put(w)
	if err := w.write(env); err != nil {
		return dst, err
	}
	values, start := bytes.Clone(w.buf), 0
	for i, name := range w.names {
		end := w.ends[i]
		dst = append(dst, RecordHeader{recordName(name), values[start:end:end]})
		start = end
	}
	return dst, nil
}

// recordName is the name of a header in a record. Those every event has cost no allocation.
func recordName(name string) string {
	switch name {
	case headerContentType:
		return name
	case "ce-specversion":
		return "ce_specversion"
	case "ce-id":
		return "ce_id"
	case "ce-source":
		return "ce_source"
	case "ce-type":
		return "ce_type"
	case "ce-subject":
		return "ce_subject"
	case "ce-time":
		return "ce_time"
	case "ce-actor":
		return "ce_actor"
	case "ce-correlationid":
		return "ce_correlationid"
	case "ce-causationid":
		return "ce_causationid"
	case HeaderPosition:
		return RecordPosition
	case HeaderCommitment:
		return RecordCommitment
	case "ce-dataversion":
		return "ce_dataversion"
	case "ce-recordedat":
		return "ce_recordedat"
	case "ce-traceparent":
		return "ce_traceparent"
	}
	return recordPrefix + name[len(headerPrefix):]
}

// RecordReader is the inverse of AppendRecordHeaders: it reads an event, first the headers of a record, one by one in any order, then its
// key and value. A record whose content-type is that of the JSON format is read in structured mode, where the value is all that counts.
// It may be used for one event after another; the zero value is ready.
type RecordReader struct {
	h       HeaderReader
	content [2]string // the datacontenttype, as the headers content-type and ce_datacontenttype have it; "" without
}

// Set takes in one header and keeps nothing of value. Headers that are no attributes of the event are ignored. What is wrong with one
// Envelope says.
func (r *RecordReader) Set(key string, value []byte) {
	attr, ours := strings.CutPrefix(key, recordPrefix)
	plain := strings.EqualFold(key, headerContentType)
	if !ours && !plain {
		return
	}
	text := string(value)
	switch {
	case plain:
		if !r.again(0, text) {
			r.h.Set(key, text)
		}
	case strings.EqualFold(attr, attrDataContentType) && r.again(1, text):
	case r.h.err == nil:
		r.h.err = r.h.set(strings.ToLower(attr), text, false)
	}
}

// again notes what one of the two headers says of the content type, and tells whether the other one said the same: the binding has content-type alone
// (Kafka binding 1.0.2, 3.2.1), the SDK for JavaScript sends both.
func (r *RecordReader) again(header int, text string) bool {
	r.content[header] = text
	return text != "" && r.content[1-header] == text
}

// Envelope returns the event with the headers that were set, and a key and a value of which it keeps the value. A key stands for the subject
// where there is none. A value without bytes is the payload null. The errors are those of Unmarshal. The reader is ready for the next event.
func (r *RecordReader) Envelope(key, value []byte) (pulse.Envelope, error) {
	structured := r.h.structured
	r.content = [2]string{}
	if len(key) > 0 && !structured && r.h.err == nil && r.h.r.seen&knownBit([]byte(attrSubject)) == 0 {
		r.h.err = r.h.set(attrSubject, string(key), false)
	}
	return r.h.Envelope(value)
}

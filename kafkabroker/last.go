package kafkabroker

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/edupulse-live/pulse"
)

// sync becomes the only writer and finds out what is in the topic. It makes a topic that is gone.
func (p *Publisher) sync(ctx context.Context) error {
	t, err := p.broker.ensureTopic(ctx)
	if err != nil {
		return err
	}
	if p.writer == nil {
		if p.writer, err = p.broker.newWriter(ctx); err != nil {
			return fmt.Errorf("begin to write: %w", err)
		}
	}
	tails, err := p.broker.tails(ctx, &t)
	if err != nil {
		return fmt.Errorf("read the last records: %w", err)
	}
	e := endOf(tails)
	p.synced, p.high, p.blind, p.ends, p.turn = true, e.high, e.blind, e.offsets, e.turn
	return nil
}

// end is what the last records of all partitions tell.
type end struct {
	high    pulse.Cursor
	blind   bool    // they do not tell high: all have expired, or one is another's
	offsets []int64 // of the last record of each partition; -1 when there is none
	turn    int64   // number of the last transaction, where the topic has several partitions
}

// endOf looks at the last records.
func endOf(tails []tail) end {
	e := end{offsets: make([]int64, len(tails))}
	highs := make([]pulse.Cursor, len(tails))
	marks := make([]marks, len(tails))
	empty, expired := 0, false
	for i := range tails {
		expired = expired || tails[i].start > 0 // what lies behind that and is no record was aborted
		r := tails[i].record
		if r == nil {
			empty++
			e.offsets[i] = tails[i].end - 1
			continue
		}
		e.offsets[i] = r.Offset
		var ok bool
		if highs[i], ok = highOf(r); !ok {
			e.blind = true
		}
		marks[i] = readMarks(header(r, headerEnds))
		e.high, e.turn = further(e.high, highs[i]), max(e.turn, marks[i].turn)
	}
	e.blind = e.blind || expired && empty == len(tails)
	if e.blind {
		e.high = pulse.Cursor{}
		return e
	}
	for i := range marks {
		if marks[i].turn == 0 || marks[i].turn < e.turn {
			continue // what it tells is out of date
		}
		for p, m := range marks[i].ends {
			if p < len(highs) && (e.offsets[p] < m.offset || m.more && e.offsets[p] == m.offset) && highs[p].Position < e.high.Position {
				e.high = highs[p] // the records of this partition behind that are lost
			}
		}
	}
	return e
}

func further(a, b pulse.Cursor) pulse.Cursor {
	if b.Position > a.Position {
		return b
	}
	return a
}

// headerEnds is in the last record of a transaction in each partition, where the topic has several: the number of the transaction, and for each
// partition the offset of its last record before, with a plus where the transaction adds some. So the last record of one partition tells
// when another has lost its own.
const headerEnds = "pulse-ends"

// mostEnds is for how many partitions the header is written at most.
const mostEnds = 64

// marks are what the header says.
type marks struct {
	turn int64
	ends []mark
}

type mark struct {
	offset int64 // of the last record before; -1 when there was none
	more   bool  // the transaction has some
}

func (m *marks) String() string {
	text := strconv.AppendInt(nil, m.turn, 10)
	for _, e := range m.ends {
		text = strconv.AppendInt(append(text, ' '), e.offset, 10)
		if e.more {
			text = append(text, '+')
		}
	}
	return string(text)
}

// readMarks reads the header; what is none says nothing.
func readMarks(text string) (m marks) {
	for i, field := range strings.Fields(text) {
		number, more := strings.CutSuffix(field, "+")
		n, err := strconv.ParseInt(number, 10, 64)
		switch {
		case err != nil:
			return marks{}
		case i == 0:
			m.turn = n
		default:
			m.ends = append(m.ends, mark{n, more})
		}
	}
	return m
}

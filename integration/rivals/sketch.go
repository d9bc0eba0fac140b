package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The sketch is the yardstick: the same tables, the same tick, the same headers, synced and acknowledged alike, and nothing else. It
// does not compute what proves events, keeps no progress, fences nobody, tries nothing again and forgets everything when it ends.
var sketchEntry = entry{"sketch", func(ctx context.Context, g ground) (contestant, error) { return openSketch(ctx, g) }}

type sketch struct {
	dsn    string // for the relay, which has a connection beside those of the application
	pool   *pgxpool.Pool
	broker *broker
	tally  *tally
	in     chan *waiting
	wake   chan struct{}
	last   uint64 // of the stream
	stop   context.CancelFunc
	flush  sync.WaitGroup
}

// waiting is a row that waits for its insert, and who waits for that.
type waiting struct {
	row  row
	done chan error
}

// flushers is how many inserts are under way at the same time.
const flushers = 2

func openSketch(ctx context.Context, g ground) (*sketch, error) {
	s := &sketch{dsn: g.dsn, tally: g.tally, in: make(chan *waiting, 4096), wake: make(chan struct{}, 1)}
	if err := createEvents(ctx, g.dsn); err != nil {
		return nil, err
	}
	var err error
	if s.pool, err = g.pool(ctx); err != nil {
		return nil, err
	}
	if s.broker, err = embed(g.dir); err != nil {
		return nil, err
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for range flushers {
		s.flush.Go(func() { s.flushAll(ctx) })
	}
	return s, s.createStream(ctx)
}

// emit shares inserts with others.
func (s *sketch) emit(ctx context.Context, evs []lesson) error {
	rows, err := rowsOf(evs)
	if err != nil {
		return err
	}
	if len(rows) > 1 {
		defer s.wakeUp()
		return insertMany(ctx, s.pool, rows)
	}
	w := &waiting{row: rows[0], done: make(chan error, 1)}
	s.in <- w
	return <-w.done
}

// flushAll inserts what waits, all of it at once.
func (s *sketch) flushAll(ctx context.Context) {
	for {
		var batch []*waiting
		select {
		case <-ctx.Done():
			return
		case w := <-s.in:
			batch = append(batch, w)
		}
		for len(batch) < bulkUnit && len(s.in) > 0 {
			select {
			case w := <-s.in:
				batch = append(batch, w)
			default: // the other one was faster
			}
		}
		rows := make([]row, len(batch))
		for i, w := range batch {
			rows[i] = w.row
		}
		err := insertMany(ctx, s.pool, rows)
		for _, w := range batch {
			w.done <- err
		}
		s.wakeUp()
	}
}

func (s *sketch) transact(ctx context.Context, evs []lesson, work work) error {
	defer s.wakeUp()
	return (&raw{pool: s.pool}).transact(ctx, evs, work)
}

// sketchQueue is the sketch with transactions of the user's sent as one batch.
var sketchQueue = entry{"sketch, queued", func(ctx context.Context, g ground) (contestant, error) {
	s, err := openSketch(ctx, g)
	return queuedSketch{s}, err
}}

type queuedSketch struct{ *sketch }

func (q queuedSketch) transact(ctx context.Context, evs []lesson, _ work) error {
	defer q.wakeUp()
	rows, err := rowsOf(evs)
	if err != nil {
		return err
	}
	batch := &pgx.Batch{} // of enrol's work
	batch.Queue(enrolSQL, course)
	for i := range rows {
		batch.Queue(insertOneSQL, oneArgs(&rows[i])...)
	}
	return q.pool.SendBatch(ctx, batch).Close()
}

func (s *sketch) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sketch) run(ctx context.Context) error {
	consumer, err := s.createConsumer(ctx)
	if err != nil {
		return err
	}
	var relayed error
	var relay sync.WaitGroup
	relay.Go(func() { relayed = s.relay(ctx) })
	err = consume(ctx, consumer, func(data []byte) error {
		var e lesson
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		s.tally.handle(e)
		return nil
	})
	relay.Wait()
	return errors.Join(err, relayed)
}

func (s *sketch) close() error {
	s.stop()
	s.flush.Wait()
	s.pool.Close()
	return s.broker.close()
}

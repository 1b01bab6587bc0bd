package results

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	recordBatch    = 1000
	recordTimeout  = time.Second
	recordPatience = 5 * time.Second
	recordFlush    = 2 * time.Second
	// recordLinger is how long records gather while many come. Redis writes its
	// log to the disk for each group, and RabbitMQ waits for the same disk.
	recordLinger = 5 * time.Millisecond
)

// Recorder writes the records of submissions behind the submissions' back: a
// task that is accepted is in the queue, whether or not Redis hears of it. What
// cannot be kept or written in time is dropped and counted. Use [NewRecorder].
type Recorder struct {
	store   *Store
	queue   chan *messages.Result
	awaited chan *messages.Result // has no buffer: who sends waits
	dropped atomic.Uint64
	// patience is how long a batch is tried.
	patience time.Duration
	// down says that Redis was away at the last try; busy, which only Run
	// touches, that the last batch was more than one record.
	down atomic.Bool
	busy bool
}

// NewRecorder returns a recorder that keeps up to size records waiting. It
// writes nothing until [Recorder.Run] runs.
func NewRecorder(s *Store, size int) *Recorder {
	return &Recorder{store: s, queue: make(chan *messages.Result, max(size, 1)), awaited: make(chan *messages.Result), patience: recordPatience}
}

// Record hands over the record of a submission, which must not be changed any
// more, and which a record that is there already wins over. A task whose result
// is ignored has none to hand over. It never blocks; false means that it was
// dropped.
func (r *Recorder) Record(result *messages.Result) bool {
	select {
	case r.queue <- result:
		return true
	default:
		r.dropped.Add(1)
		return false
	}
}

// Await is [Recorder.Record] for those who have the time: it leaves half of the
// waiting room to others. When that is all there is it waits until the record is
// about to be written, but not past the end of ctx, nor for a Redis that is away.
func (r *Recorder) Await(ctx context.Context, result *messages.Result) bool {
	if r.down.Load() || len(r.queue) < cap(r.queue)/2 {
		return r.Record(result)
	}
	select {
	case r.awaited <- result:
		return true
	case <-ctx.Done():
		r.dropped.Add(1)
		return false
	}
}

// Dropped is how many records were dropped.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

// Run writes records until the context ends, then what is still waiting for at
// most two seconds. It blocks, and returns nil.
func (r *Recorder) Run(ctx context.Context) error {
	var left []submission
	for ctx.Err() == nil {
		r.drop(len(left))
		left = nil
		var first *messages.Result
		select {
		case first = <-r.queue:
		case first = <-r.awaited:
		case <-ctx.Done():
			continue
		}
		if r.busy {
			sleep(ctx, recordLinger) // the next batch gathers meanwhile
		}
		batch := r.gather(first)
		r.busy = len(batch) > 1
		left = r.write(ctx, batch)
	}
	r.flush(ctx, left)
	return nil
}

// submission is a record ready to be written.
type submission struct {
	result *messages.Result
	id     string
	record []byte
	ttl    time.Duration
	entry  entry
	terms  []string
}

// gather takes what is waiting behind the first record.
func (r *Recorder) gather(first *messages.Result) []submission {
	batch := r.prepare(make([]submission, 0, 1+min(len(r.queue), recordBatch-1)), first)
	for len(batch) < recordBatch {
		select {
		case next := <-r.queue:
			batch = r.prepare(batch, next)
		case next := <-r.awaited:
			batch = r.prepare(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// prepare encodes a record; one that cannot be is dropped.
func (r *Recorder) prepare(batch []submission, result *messages.Result) []submission {
	record, err := messages.EncodeResult(result)
	if err != nil {
		r.drop(1)
		r.store.log.Debug("record of submission not encoded", zap.String("task_id", result.TaskID), zap.Error(err))
		return batch
	}
	return append(batch, submission{
		result: result, id: result.TaskID, record: record, ttl: r.store.pendingFor(result), entry: entryOf(result), terms: result.Terms,
	})
}

// flush writes what is left after the context has ended, and counts what it
// cannot write in time as dropped.
func (r *Recorder) flush(ctx context.Context, left []submission) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordFlush)
	defer cancel()
	for {
		if len(left) > 0 {
			r.drop(len(r.write(ctx, left)))
		}
		select {
		case first := <-r.queue:
			left = r.gather(first)
		default:
			return
		}
	}
}

// write tries a batch again until it is written, too old, or the context ends,
// and returns what is not written. To write a record twice is harmless.
func (r *Recorder) write(ctx context.Context, batch []submission) []submission {
	pauses := backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second,
		Multiplier: 2, RandomizationFactor: 0.5,
	}
	pauses.Reset()
	deadline := time.Now().Add(r.patience)
	for len(batch) > 0 && ctx.Err() == nil {
		batch = r.attempt(ctx, batch)
		pause := pauses.NextBackOff()
		if len(batch) == 0 || time.Now().Add(pause).After(deadline) || !sleep(ctx, pause) {
			break
		}
	}
	return batch
}

// attempt writes a batch in one round trip and returns what has to be tried
// again.
func (r *Recorder) attempt(ctx context.Context, batch []submission) []submission {
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	pipe := r.store.pipe(len(batch))
	cmds := make([]*redis.BoolCmd, len(batch))
	// The index comes first: whoever settles a task takes it from where it is
	// waiting, and a task that had been settled before is found out below.
	r.store.indexSubmitted(ctx, pipe, batch)
	for i, b := range batch {
		// NX: a worker may know more by now.
		cmds[i] = pipe.SetNX(ctx, messages.ResultKey(b.id), b.record, b.ttl)
	}
	wanted := r.store.changes.ask(ctx, pipe)
	// The error of the pipeline is the first of its commands', read there.
	_, _ = pipe.Exec(ctx)
	var left []submission
	var known []entry
	var outage error
	for i, cmd := range cmds {
		err := cmd.Err()
		switch {
		case err == nil && !cmd.Val():
			known = append(known, batch[i].entry)
		case err == nil:
		case unavailable(err) || ctx.Err() != nil:
			left, outage = append(left, batch[i]), err
		default:
			r.drop(1)
			r.store.log.Debug("record of submission refused", zap.String("task_id", batch[i].id), zap.Error(err))
		}
	}
	if wanted() {
		r.store.changes.tell(ctx, r.written(batch, cmds))
	}
	r.report(ctx, outage)
	if outage == nil {
		r.putRight(ctx, known)
		r.store.trim(ctx, len(batch))
	}
	return left
}

// written are the records of a batch that were not there before.
func (r *Recorder) written(batch []submission, cmds []*redis.BoolCmd) (records []*messages.Result) {
	for i, cmd := range cmds {
		if cmd.Val() {
			records = append(records, batch[i].result)
		}
	}
	return records
}

// putRight looks after the entries of tasks of which there was a record already.
func (r *Recorder) putRight(ctx context.Context, known []entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if _, err := r.store.index.put(ctx, known); err != nil {
		r.store.log.Debug("index not put right", zap.Error(err))
	}
}

// report logs the beginning and the end of an outage, and nothing in between.
func (r *Recorder) report(ctx context.Context, outage error) {
	switch {
	case outage != nil && !r.down.Load() && !errors.Is(ctx.Err(), context.Canceled):
		r.down.Store(true)
		r.store.log.Warn("records of submissions wait for redis", zap.Error(outage))
	case outage == nil && r.down.Load():
		r.down.Store(false)
		r.store.log.Info("records of submissions are written again", zap.Uint64("dropped", r.Dropped()))
	}
}

func (r *Recorder) drop(n int) { r.dropped.Add(uint64(n)) }

// sleep waits and reports false when the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

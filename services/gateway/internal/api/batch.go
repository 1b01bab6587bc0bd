package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// batchWindow is how many items of one batch may be read and not yet
	// answered, batchBytes how many bytes they and their answers may have
	// together. One item alone may have more.
	batchWindow = 256
	batchBytes  = 256 << 10
	// batchFlush is how long an answer waits for company.
	batchFlush = 50 * time.Millisecond
	// batchChunk is how many bytes of answers are written at a time.
	batchChunk = 16 << 10
)

// batchTimes bound how long a batch may stand still. They do not bound how
// long it may take as a whole.
type batchTimes struct {
	// read is how long the next bytes of the request may let us wait, write
	// how long the client may take none of the answers.
	read, write time.Duration
	// grace is how long a batch goes on when the server is about to stop, and
	// once more for the client to take its answers.
	grace time.Duration
}

func defaultBatchTimes() batchTimes {
	return batchTimes{read: 30 * time.Second, write: 30 * time.Second, grace: 5 * time.Second}
}

// submitBatch is POST /v1/batches. It answers 200 as soon as there is an item;
// what becomes of each is in its own answer.
func (a *API) submitBatch(c *call) {
	form, err := a.readBatchForm(c.request)
	if err != nil {
		problemOf(err).write(c.writer, c.request)
		return
	}
	s := newStream(c.writer, c.request.Body, a.times)
	items := form.splitter(s, a.opts.MaxBody)
	if err := items.begin(); err != nil {
		problemOf(err).write(c.writer, c.request)
		return
	}
	c.writer.Header().Set("Content-Type", form.answers)
	// The deadlines of this request must not become those of another, and what
	// is left of a body that was not read to its end must not become a request.
	c.writer.Header().Set("Connection", "close")
	c.writer.WriteHeader(http.StatusOK)
	s.begin()

	ctx, cancel := s.context(c.request.Context())
	defer cancel()
	b := newBatch(a, c.request.Header)
	var parts sync.WaitGroup
	parts.Go(func() { s.stopWith(ctx, a.draining) })
	parts.Go(func() { b.read(ctx, items) })
	if err = b.answer(ctx, s, form); err != nil {
		s.stop(err)
	}
	cancel()
	parts.Wait()
	b.log(ctx, err)
}

// batch is one request on its way: a reader starts a goroutine for each item,
// and a writer answers them in their order.
type batch struct {
	api  *API
	room *room
	// parent and state are the trace that all items are part of.
	parent, state string
	// order holds the items that have no answer yet, in their order.
	order   chan *batchItem
	running sync.WaitGroup
	// answered and failed are counted by the writer.
	answered, failed int
	worst            *problem
}

// batchItem is one item between the reader and the writer.
type batchItem struct {
	index   int
	size    int // of what is held for it
	done    chan struct{}
	taskID  string
	problem *problem
	text    []byte
}

func newBatch(a *API, h http.Header) *batch {
	b := &batch{
		api: a, room: newRoom(batchBytes),
		// The writer holds one more.
		order: make(chan *batchItem, batchWindow-1),
	}
	b.parent, b.state = traceContext(h)
	return b
}

// read starts the items until there are no more, and waits for them. It stops
// reading while the window is full: so a client that does not take its answers
// is not listened to either.
func (b *batch) read(ctx context.Context, items splitter) {
	defer b.running.Wait()
	defer close(b.order)
	for index := 0; ; index++ {
		p, more := items.next()
		if !more || !b.room.enter(ctx, len(p.raw)) {
			return
		}
		it := &batchItem{index: index, size: len(p.raw), done: make(chan struct{})}
		select {
		case b.order <- it:
		case <-ctx.Done():
			return
		}
		if s, ok := b.prepare(ctx, it, p); ok {
			b.running.Go(func() { b.send(ctx, it, s) })
		} else {
			b.finish(it)
		}
		if p.last {
			return
		}
	}
}

// prepare does with an item what POST /v1/tasks does with its body; false when
// it cannot be sent. The reader does that for one item after the other: many
// goroutines would each have to grow a stack for it.
func (b *batch) prepare(ctx context.Context, it *batchItem, p piece) (s submission, ok bool) {
	defer it.keepPanic()
	if p.err != nil {
		it.problem = problemOf(p.err)
		return s, false
	}
	s, err := b.api.prepareEnvelope(ctx, p.raw, nil, 0)
	if err != nil {
		it.problem = problemOf(err)
		return s, false
	}
	s.task.TraceParent, s.task.TraceState = b.parent, b.state
	return s, true
}

// send waits for the broker's word about one item.
func (b *batch) send(ctx context.Context, it *batchItem, s submission) {
	defer b.finish(it)
	defer it.keepPanic()
	if _, err := b.api.send(ctx, nil, s); err != nil {
		it.problem = problemOf(err)
		return
	}
	it.taskID = s.task.ID
}

// keepPanic is to be deferred: an item that is a bug fails alone.
func (it *batchItem) keepPanic() {
	if v := recover(); v != nil {
		it.problem = problemOf(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
	}
}

// finish writes the answer down.
func (b *batch) finish(it *batchItem) {
	it.text = it.answer()
	b.room.exchange(it.size, len(it.text))
	b.api.metrics.submitted(it.problem)
	close(it.done)
}

// answer writes the answers until all are written, or the client or the
// request has gone.
func (b *batch) answer(ctx context.Context, s *stream, form batchForm) error {
	tick := time.NewTicker(batchFlush)
	defer tick.Stop()
	next := form.opening
	for {
		it, err := b.nextAnswer(ctx, s, tick.C)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := s.write(next, it.text, form.after); err != nil {
			return err
		}
		next = form.between
		b.count(it)
		b.room.exchange(len(it.text), 0)
	}
	if b.answered > 0 {
		next = ""
	}
	if err := s.write(next, nil, form.closing); err != nil {
		return err
	}
	return s.finish()
}

// nextAnswer returns the next item once its answer is known, and [io.EOF]
// after the last one. It flushes what was written before when the client may
// be waiting for it: when the reader waits for the client, and from time to
// time.
func (b *batch) nextAnswer(ctx context.Context, s *stream, tick <-chan time.Time) (*batchItem, error) {
	var it *batchItem
	for order, done := b.order, (chan struct{})(nil); ; {
		hungry := s.hungry
		if it != nil || len(b.order) > 0 {
			hungry = nil // there is more to come
		}
		select {
		case next, ok := <-order:
			if !ok {
				return nil, io.EOF
			}
			it, order, done = next, nil, next.done
		case <-done:
			return it, nil
		case <-hungry:
			if err := s.flush(); err != nil {
				return nil, err
			}
		case <-tick:
			if err := s.flush(); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (b *batch) count(it *batchItem) {
	b.answered++
	if it.problem == nil {
		return
	}
	b.failed++
	if b.worst == nil || it.problem.Status > b.worst.Status {
		b.worst = it.problem
	}
}

// log says what became of a batch, in one line for all of its items.
func (b *batch) log(ctx context.Context, err error) {
	x := exchangeOf(ctx)
	status := http.StatusOK
	if b.worst != nil {
		status = b.worst.Status
	}
	line := b.api.opts.Log.Check(level(status, &exchange{problem: b.worst}), "batch")
	if line == nil {
		return
	}
	f := []zap.Field{zap.String("request_id", x.requestID), zap.Int("items", b.answered), zap.Int("failed", b.failed)}
	if b.worst != nil {
		f = append(f, zap.String("problem", string(b.worst.kind)))
		if b.worst.cause != nil {
			f = append(f, zap.NamedError("cause", b.worst.cause))
		}
	}
	if err != nil {
		f = append(f, zap.Error(err))
	}
	line.Write(f...)
}

// room bounds the bytes that a batch holds.
type room struct {
	limit int
	freed chan struct{}

	mu   sync.Mutex
	used int
}

func newRoom(limit int) *room { return &room{limit: limit, freed: make(chan struct{}, 1)} }

// enter waits until there is room for n bytes, or nothing else is in it; false
// when ctx ended first.
func (r *room) enter(ctx context.Context, n int) bool {
	for !r.take(n) {
		select {
		case <-r.freed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (r *room) take(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used > 0 && r.used+n > r.limit {
		return false
	}
	r.used += n
	return true
}

// exchange lets bytes go and takes others in their place, whether or not there
// is room for them.
func (r *room) exchange(out, in int) {
	r.mu.Lock()
	r.used += in - out
	r.mu.Unlock()
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

package api

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// batchWindow is how many items of one batch may be read and not yet
	// answered, batchBytes how many bytes they and their answers may have
	// together. One item alone may have more. The more there are the more share
	// a write to the broker, and the more memory they take.
	batchWindow = 1024
	batchBytes  = 1 << 20
	// batchesTogether is how many items of all batches may wait for their
	// confirm. The publisher takes a few times as many: there is always room for
	// single submissions, and many batches wait for one another instead of
	// failing for want of room.
	batchesTogether = 2048
	// batchFlush is how long an answer waits for company.
	batchFlush = 50 * time.Millisecond
	// batchChunk is how many bytes of answers are written at a time: so many the
	// client has to take within the time of a write, or none of them.
	batchChunk = 4 << 10
	// batchGroup is how many items are waited for together, that the writer is
	// not woken for each of them.
	batchGroup = 32
	// batchSteps is the part of its time that an item may have less than others.
	batchSteps = 200
)

// batchTimes bound how long a batch may stand still. They do not bound how
// long it may take as a whole.
type batchTimes struct {
	// read is how long the next bytes of the request may let us wait, write
	// how long the client may take none of the answers. We hear of what it
	// takes in steps only: a system tells of the room in its buffers when there
	// is much of it, and one that reads an answer a second needs ten minutes to
	// make 64 KiB of room.
	read, write time.Duration
	// grace is how long a batch goes on when the server is about to stop, and
	// once more for the client to take its answers.
	grace time.Duration
}

func defaultBatchTimes() batchTimes {
	return batchTimes{read: 30 * time.Second, write: 15 * time.Minute, grace: 5 * time.Second}
}

// submitBatch is POST /v1/batches. It answers 200 as soon as there is an item;
// what becomes of each is in its own answer.
func (a *API) submitBatch(c *call) {
	form, err := a.readBatchForm(c.request)
	if err == nil {
		c.timeout, err = a.publishTimeout(c.request.Header)
	}
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
	b := newBatch(ctx, a, c)
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
	// timeout bounds the publish of each item.
	timeout time.Duration
	// parent and state are the trace that all items are part of.
	parent, state string
	// order holds the items that the writer has not seen yet, in their order.
	order   chan *batchItem
	running sync.WaitGroup
	// awaited is the item that the writer waits for, wake tells it.
	awaited atomic.Pointer[batchItem]
	wake    chan struct{}
	// answered and failed are counted by the writer.
	answered, failed int
	worst            *problem
}

// batchItem is one item between the reader and the writer. What became of it
// is set before done.
type batchItem struct {
	index   int
	size    int // of what is held for it
	taskID  string
	problem *problem
	text    []byte // the answer, if it is a problem
	done    atomic.Bool
}

func newBatch(ctx context.Context, a *API, c *call) *batch {
	b := &batch{
		api: a, timeout: c.timeout, room: newRoom(batchWindow, batchBytes),
		order: make(chan *batchItem, batchWindow), wake: make(chan struct{}, 1),
	}
	b.parent, b.state = c.trace(ctx)
	return b
}

// read starts the items until there are no more, and waits for them. It stops
// reading while the window is full: so a client that does not take its answers
// is not listened to either.
func (b *batch) read(ctx context.Context, items splitter) {
	defer b.running.Wait()
	defer close(b.order)
	var bounded context.Context //nolint:contextcheck // it is made of ctx before it is used
	var begun time.Time
	for index := 0; ; index++ {
		p, more := items.next()
		if !more || !b.room.enter(ctx, len(p.raw)) || !b.api.batches.enter(ctx) {
			return
		}
		it := &batchItem{index: index, size: len(p.raw)}
		b.order <- it // there is room in it as well
		if now := time.Now(); bounded == nil || now.Sub(begun) > b.timeout/batchSteps {
			bounded, begun = b.bound(ctx), now //nolint:fatcontext // it is made of ctx, not of the one before
		}
		b.start(bounded, it, p)
		if p.last {
			return
		}
	}
}

// start sends an item, or finishes it at once.
func (b *batch) start(ctx context.Context, it *batchItem, p piece) {
	s, m := b.prepare(ctx, it, p)
	if m == nil {
		b.finish(it)
		return
	}
	b.running.Go(func() { b.send(ctx, it, s, m) })
}

// bound returns a context with the time of a publish. The items of a moment
// share it: to make one for each would be a third of all that is done for them.
func (b *batch) bound(ctx context.Context) context.Context {
	bounded, cancel := context.WithTimeout(ctx, b.timeout)
	context.AfterFunc(bounded, cancel)
	return bounded
}

// prepare does with an item what POST /v1/tasks does with its body; nil when it
// cannot be sent. The reader does that for one item after the other: many
// goroutines would each have to grow a stack for it.
func (b *batch) prepare(ctx context.Context, it *batchItem, p piece) (s submission, m *messages.Message) {
	defer it.keepPanic()
	err := p.err
	if err == nil {
		s, err = b.api.prepareEnvelope(ctx, p.raw, nil, 0)
	}
	if err == nil {
		s.task.TraceParent, s.task.TraceState = b.parent, b.state
		b.api.sending(ctx, &s)
		if m, err = encode(s); err != nil {
			err = s.sent(err)
		}
	}
	if err != nil {
		it.problem = problemOf(err)
		return s, nil
	}
	return s, m
}

// send waits for the broker's word about one item.
func (b *batch) send(ctx context.Context, it *batchItem, s submission, m *messages.Message) {
	defer b.finish(it)
	defer it.keepPanic()
	settle, err := b.api.promise(ctx, s)
	if err == nil {
		err = b.api.enqueue(ctx, s, m)
		settle(err)
		err = s.problem(err)
	}
	if err = s.sent(err); err != nil {
		it.problem = problemOf(err)
		return
	}
	it.taskID = s.task.ID
	if !s.task.IgnoreResult {
		// More than the store takes must not come at its expense: a batch slows
		// down instead.
		b.api.opts.Recorder.Await(ctx, s.record())
	}
}

// keepPanic is to be deferred: an item that is a bug fails alone.
func (it *batchItem) keepPanic() {
	if v := recover(); v != nil {
		it.problem = problemOf(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
	}
}

// finish lets the writer have the item.
func (b *batch) finish(it *batchItem) {
	b.api.batches.leave()
	if it.problem != nil {
		it.text = appendProblem(it.index, it.problem)
		b.room.exchange(it.size, len(it.text))
		it.size = len(it.text)
	}
	b.api.metrics.submitted(it.problem)
	it.done.Store(true)
	if b.awaited.Load() == it {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// answer writes the answers until all are written, or the client or the
// request has gone.
func (b *batch) answer(ctx context.Context, s *stream, form batchForm) error {
	tick := time.NewTicker(batchFlush)
	defer tick.Stop()
	group := make([]*batchItem, 0, batchGroup)
	next := form.opening
	for {
		var err error
		if group, err = b.nextGroup(ctx, s, tick.C, group[:0]); err != nil {
			return err
		}
		if len(group) == 0 {
			break
		}
		// Confirms mostly come in order: with the last one all are there.
		if _, err := b.await(ctx, s, tick.C, group[len(group)-1]); err != nil {
			return err
		}
		for _, it := range group {
			for done := false; !done; {
				if done, err = b.await(ctx, s, tick.C, it); err != nil {
					return err
				}
			}
			if err := s.write(next, it, form.after); err != nil {
				return err
			}
			next = form.between
			b.count(it)
		}
		b.leave(group)
	}
	if b.answered > 0 {
		next = ""
	}
	if err := s.write(next, nil, form.closing); err != nil {
		return err
	}
	return s.finish()
}

// nextGroup returns the next items, a few of those that are on their way; none
// after the last one.
func (b *batch) nextGroup(ctx context.Context, s *stream, tick <-chan time.Time, group []*batchItem) ([]*batchItem, error) {
	few := min(len(b.order)/4, batchGroup-1)
	for {
		hungry := s.hungry
		if len(b.order) > 0 {
			hungry = nil // there is more to come
		}
		select {
		case it, ok := <-b.order:
			if !ok {
				return group, nil
			}
			for group = append(group, it); few > 0; few-- {
				group = append(group, <-b.order)
			}
			return group, nil
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

// await waits until the item is done; false when it is not after a while, and
// then what was written is flushed.
func (b *batch) await(ctx context.Context, s *stream, tick <-chan time.Time, it *batchItem) (done bool, err error) {
	b.awaited.Store(it)
	for !it.done.Load() {
		select {
		case <-b.wake: // perhaps for another one
		case <-tick:
			return false, s.flush()
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return true, nil
}

// leave makes room for as many items as were answered.
func (b *batch) leave(answered []*batchItem) {
	bytes := 0
	for _, it := range answered {
		bytes += it.size
	}
	b.room.leave(len(answered), bytes)
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

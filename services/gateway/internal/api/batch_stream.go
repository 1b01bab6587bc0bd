package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// stream is the connection of a batch: one side reads while the other writes,
// and each has a deadline for every step instead of one for the whole.
type stream struct {
	body  io.Reader
	to    io.Writer
	conn  *http.ResponseController
	times batchTimes
	// hungry is told when the reader is about to wait for the client.
	hungry chan struct{}
	out    []byte

	mu sync.Mutex
	// readBy is when the present read has to end.
	readBy time.Time
	// ended is set when there is nothing more to read: from then on net/http
	// reads, and its deadlines are not ours.
	ended bool
	// stopped is why nothing more is to be read.
	stopped error
	// until bounds all writes, once the server stops.
	until time.Time
}

func newStream(w http.ResponseWriter, body io.Reader, t batchTimes) *stream {
	s := &stream{
		body: body, to: w, conn: http.NewResponseController(w), times: t,
		hungry: make(chan struct{}, 1), out: make([]byte, 0, batchChunk),
	}
	// HTTP/2 is always so, and what is no connection need not be.
	_ = s.conn.EnableFullDuplex()
	return s
}

// Read reads from the request and waits at most times.read for it.
func (s *stream) Read(p []byte) (int, error) {
	select {
	case s.hungry <- struct{}{}:
	default:
	}
	if err := s.beforeRead(); err != nil {
		return 0, err
	}
	n, err := s.body.Read(p)
	if err == nil {
		return n, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = errors.Is(err, io.EOF)
	if s.stopped != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = s.stopped
	}
	return n, err
}

func (s *stream) beforeRead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped != nil {
		return s.stopped
	}
	s.readBy = time.Now().Add(s.times.read)
	_ = s.conn.SetReadDeadline(s.readBy)
	return nil
}

// context ends when the client has gone. That of the request also ends when a
// read took too long, but what was read before is still to be answered.
func (s *stream) context(request context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(request))
	unhook := context.AfterFunc(request, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ended || time.Now().Before(s.readBy) {
			cancel()
		}
	})
	return ctx, func() {
		unhook()
		cancel()
	}
}

// stop ends the reading, also one that waits at this moment.
func (s *stream) stop(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == nil {
		s.stopped = why
	}
	if !s.ended {
		s.readBy = time.Unix(1, 0)
		_ = s.conn.SetReadDeadline(s.readBy)
	}
}

// stopWith ends a batch when the server is about to stop. Short ones come to
// their own end before.
func (s *stream) stopWith(ctx context.Context, draining <-chan struct{}) {
	select {
	case <-draining:
	case <-ctx.Done():
		return
	}
	grace := time.NewTimer(s.times.grace)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-ctx.Done():
		return
	}
	s.stop(newProblem(slugStopping, "the server is about to stop and has read nothing from this item on; send the rest again"))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Now().Add(s.times.grace)
	_ = s.conn.SetWriteDeadline(s.until)
}

// write adds the answer to an item, if there is one. It is called by one
// goroutine only, as are flush and finish.
func (s *stream) write(before string, it *batchItem, after string) error {
	s.out = append(s.out, before...)
	if it != nil {
		s.out = it.appendAnswer(s.out)
	}
	s.out = append(s.out, after...)
	if len(s.out) < batchChunk {
		return nil
	}
	return s.send()
}

// send hands over to the connection what was written.
func (s *stream) send() error {
	s.mu.Lock()
	deadline := time.Now().Add(s.times.write)
	if !s.until.IsZero() && s.until.Before(deadline) {
		deadline = s.until
	}
	_ = s.conn.SetWriteDeadline(deadline)
	s.mu.Unlock()
	_, err := s.to.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > 2*batchChunk {
		s.out = make([]byte, 0, batchChunk)
	}
	return err
}

// flush gives the client everything that was written.
func (s *stream) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	if err := s.send(); err != nil {
		return err
	}
	if err := s.conn.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// begin shows the client that it is listened to. Whether it is still there is
// found out by the next write.
func (s *stream) begin() { _ = s.conn.Flush() }

// finish flushes. What there may still be of the request is not waited for
// long: it is discarded so that the client gets to read its answers.
func (s *stream) finish() error {
	if err := s.flush(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
	}
	return nil
}

package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/internal/access"
)

const eventsType = "text/event-stream"

// streamTimes are the times of an event stream.
type streamTimes struct {
	// heartbeat is how often something is sent when there is nothing to tell.
	heartbeat time.Duration
	// write is what the client has to take what was sent.
	write time.Duration
	// gap lies between two looks for the same stream: what changes faster is
	// told once.
	gap time.Duration
	// again is when a look that failed is tried again.
	again time.Duration
}

func defaultStreamTimes() streamTimes {
	return streamTimes{heartbeat: 15 * time.Second, write: 30 * time.Second, gap: 100 * time.Millisecond, again: time.Second}
}

// events writes Server-Sent Events to one client. A write that fails ends the
// stream: the client comes back with the id of the last event it has seen.
type events struct {
	to    http.ResponseWriter
	conn  *http.ResponseController
	times streamTimes
}

// openEvents begins the answer. The connection may be silent from now on for as
// long as it likes.
func (a *API) openEvents(c *call) (*events, error) {
	e := &events{to: c.writer, conn: http.NewResponseController(c.writer), times: a.streamTimes}
	h := c.writer.Header()
	h.Set("Content-Type", eventsType)
	h.Set("X-Accel-Buffering", "no") // nginx would keep what is meant to arrive
	c.writer.WriteHeader(http.StatusOK)
	var err error
	apart(func() {
		// Those whom a gateway leaves do not all come back in the same moment.
		err = e.send(fmt.Appendf(nil, "retry: %d\n\n", 1000+rand.IntN(2000)))
	})
	return e, err
}

// apart runs f on a stack of its own, and waits for it. The stack of a stream
// is as large as it has ever had to be, for as long as the stream is open: this
// keeps it at 8 kB, of which there are as many as there are streams.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// send gives the client whole events, or a comment.
func (e *events) send(text []byte) error {
	_ = e.conn.SetWriteDeadline(time.Now().Add(e.times.write))
	if _, err := e.to.Write(text); err != nil {
		return err
	}
	if err := e.conn.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// beat shows both sides that the connection is still there.
func (e *events) beat() error { return e.send([]byte(":\n\n")) }

// appendEvent writes one event. The data must not have line breaks, as JSON has
// none that encodeJSON has written.
func appendEvent(b []byte, kind, id string, data []byte) []byte {
	b = append(b, "event: "...)
	b = append(b, kind...)
	if id != "" {
		b = append(b, "\nid: "...)
		b = append(b, id...)
	}
	b = append(b, "\ndata: "...)
	b = append(b, strings.TrimSuffix(string(data), "\n")...)
	return append(b, "\n\n"...)
}

// lastEventID is what a client that comes back has seen last.
func lastEventID(h http.Header) string { return h.Get("Last-Event-ID") }

func lastEventParam(doc string) *huma.Param {
	return &huma.Param{
		Name: "Last-Event-ID", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
		Description: "Id of the last event that you have seen, as browsers send it when they come back. " + doc,
	}
}

// withEvents documents that the answer is a stream.
func withEvents(responses map[string]*huma.Response, description string) map[string]*huma.Response {
	responses["200"] = &huma.Response{
		Description: description,
		Content:     map[string]*huma.MediaType{eventsType: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	return responses
}

// streams bounds the event streams that are open, in all and of each caller.
type streams struct {
	most, mostOf int

	mu   sync.Mutex
	open int
	of   map[string]int
}

func newStreams(most, mostOf int) *streams {
	return &streams{most: most, mostOf: mostOf, of: map[string]int{}}
}

// enter takes a place until leave is called, once. The error is a [*problem].
func (s *streams) enter(caller string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[caller] >= s.mostOf {
		return nil, newProblem(slugTooManyStreams, fmt.Sprintf(
			"you have %d event streams open, which is as many as one caller may have (LOVAGE_MAX_STREAMS_PER_CALLER); close some, or watch many tasks on one stream of /v1/events", s.mostOf))
	}
	if s.open >= s.most {
		return nil, newProblem(slugOverloaded, fmt.Sprintf(
			"%d event streams are open here, which is as many as may be (LOVAGE_MAX_STREAMS); try another gateway, or again later", s.most))
	}
	s.open++
	s.of[caller]++
	return func() { s.leave(caller) }, nil
}

func (s *streams) leave(caller string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.of[caller]--; s.of[caller] == 0 {
		delete(s.of, caller)
	}
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// callerOf is whose a request is: that of its credential, and of the address it
// comes from where nobody shows one.
func callerOf(r *http.Request) string {
	if g := access.From(r.Context()); g != nil && g.Who != access.Anonymous {
		return "credential " + g.Who
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// stream lets a handler write its events itself. What goes wrong before the
// first one is a problem.
func (a *API) stream(h func(ctx context.Context, c *call) error) func(c *call) {
	return func(c *call) {
		if err := a.bounded(c, h); err != nil {
			problemOf(err).write(c.writer, c.request)
		}
	}
}

func (a *API) bounded(c *call, h func(ctx context.Context, c *call) error) error {
	if c.absent {
		return noResource()
	}
	leave, err := a.streams.enter(a.opts.Caller(c.request))
	if err != nil {
		return err
	}
	defer leave()
	ctx := c.request.Context()
	exchangeOf(ctx).stream = true
	return h(ctx, c)
}

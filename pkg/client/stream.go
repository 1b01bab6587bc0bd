package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// silence is after how long a stream is dead: three heartbeats.
	silence = 45 * time.Second
	// longestLine bounds what is kept of a stream.
	longestLine = 16 << 20
)

// Watch is [Client.Follow] by one connection that stays open: it is told of a
// change within moments, and may have as many at a time as the gateway lets one
// caller have. A result of more than 16 KiB is left out, and ResultOmitted says
// so: [Client.Get] has it.
func (c *Client) Watch(ctx context.Context, id string) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		s := subscription{watcher: watcher{client: c, id: id, begun: time.Now()}, path: path("v1", "tasks", id, "events")}
		for e, err := range s.events(ctx) {
			t := new(Task)
			if err == nil {
				err = e.decode(t)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(t, nil) || t.State.Final() {
				return
			}
		}
	}
}

// EventFilter selects changes. What is zero selects nothing.
type EventFilter struct {
	States      []State
	Name, Queue string
	// After is the ID of the last event that was seen; without it the events
	// begin now.
	After string
}

// Event says that a task has changed.
type Event struct {
	// ID is its place among all events.
	ID string `json:"-"`
	// Gap says that events are missing in this place, and nothing else: list the
	// tasks again.
	Gap    bool   `json:"-"`
	TaskID string `json:"task_id"`
	// State is what the task was in then.
	State State `json:"state"`
	// Name and Queue are empty where the record does not say.
	Name  string    `json:"name"`
	Queue string    `json:"queue"`
	Time  time.Time `json:"time"`
}

// Events yields each change of a task that the filter selects, and comes back
// for what it has missed when the connection breaks. It goes on until ctx ends.
// An error, under the conditions of [Client.Wait], is the last that it yields.
func (c *Client) Events(ctx context.Context, f EventFilter) iter.Seq2[*Event, error] {
	q := url.Values{}
	for _, s := range f.States {
		q.Add("state", string(s))
	}
	setText(q, "name", f.Name)
	setText(q, "queue", f.Queue)
	return func(yield func(*Event, error) bool) {
		s := subscription{watcher: watcher{client: c, begun: time.Now()}, path: path("v1", "events"), query: q, last: f.After}
		for e, err := range s.events(ctx) {
			out := &Event{ID: e.id, Gap: e.kind == "gap"}
			if err == nil {
				err = e.decode(out)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// serverEvent is one of the Server-Sent Events of a stream.
type serverEvent struct {
	kind, id string
	data     []byte
}

func (e serverEvent) decode(into any) error {
	if err := json.Unmarshal(e.data, into); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	return nil
}

// subscription is a stream that is opened again whenever it breaks.
type subscription struct {
	watcher
	path  string
	query url.Values
	// last is the id of the last event, and rest how long the gateway wants to
	// be left alone after the end of a stream.
	last string
	rest time.Duration
}

// errOver ends a stream that is not to be opened again.
var errOver = errors.New("enough")

// events yields what comes until the gateway says that there is no more. An
// error is the last that it yields, under the conditions of [Client.Wait].
func (s *subscription) events(ctx context.Context) iter.Seq2[serverEvent, error] {
	return func(yield func(serverEvent, error) bool) {
		s.rest = breath
		for lost := time.Now(); ; {
			opened, err := s.read(ctx, func(e serverEvent) bool { return yield(e, nil) })
			if errors.Is(err, errOver) {
				return
			}
			if opened {
				lost = time.Now()
			}
			after := s.rest
			if !errors.Is(err, io.EOF) {
				after = s.again(err)
			}
			if after == 0 || time.Since(lost) > patience {
				yield(serverEvent{}, err)
				return
			}
			if !pause(ctx, after) {
				yield(serverEvent{}, ctx.Err())
				return
			}
		}
	}
}

// read opens the stream and reads it to its end, which is never without an
// error: [io.EOF] when it was the gateway that has ended it.
func (s *subscription) read(ctx context.Context, yield func(serverEvent) bool) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dead := time.AfterFunc(silence, cancel)
	defer dead.Stop()
	h := http.Header{"Accept": {"text/event-stream"}}
	if s.last != "" {
		h.Set("Last-Event-ID", s.last)
	}
	res, err := s.client.send(ctx, call{method: http.MethodGet, path: s.path, query: s.query, header: h})
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode == http.StatusNoContent:
		return true, errOver
	case res.StatusCode >= http.StatusMultipleChoices:
		return false, readProblem(res)
	}
	s.reached = true
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(make([]byte, 0, 4<<10), longestLine)
	for e := (serverEvent{}); lines.Scan(); {
		dead.Reset(silence)
		if len(lines.Bytes()) > 0 {
			s.take(&e, lines.Bytes())
			continue
		}
		if e.id != "" {
			s.last = e.id
		}
		if e.data != nil && !yield(e) {
			return true, errOver
		}
		e = serverEvent{}
	}
	if lines.Err() != nil {
		return true, lines.Err()
	}
	return true, io.EOF
}

// take reads one line of an event.
func (s *subscription) take(e *serverEvent, line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		e.kind = string(value)
	case "id":
		e.id = string(value)
	case "data":
		e.data = append(e.data, value...)
	case "retry":
		if ms, err := strconv.Atoi(string(value)); err == nil {
			s.rest = min(time.Duration(ms)*time.Millisecond, patience)
		}
	}
}

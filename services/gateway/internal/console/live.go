package console

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

const (
	// mostStreams is how many pages of tasks are followed at a time. Those
	// beyond it are asked for again and again.
	mostStreams = 256
	// aliveEvery is how often a stream says that it is there, and writeWithin
	// what a browser has to take what is sent.
	aliveEvery  = 2 * time.Second
	writeWithin = 10 * time.Second
)

// follow streams the page of a task as it changes, as server-sent events, until
// the task has ended or the gateway stops.
func (c *Console) follow(w http.ResponseWriter, r *http.Request) {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		http.Error(w, "too many pages are followed", http.StatusServiceUnavailable)
		return
	}
	id := r.PathValue("id")
	w.Header().Set("Content-Type", "text/event-stream")
	out := stream{w, http.NewResponseController(w)}
	if out.send("retry: 2000\n\n") != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	changes := make(chan *client.Task)
	go c.changes(ctx, id, changes)
	defer func() {
		cancel()
		for range changes { // until it has ended
		}
	}()
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		text, end := ": alive\n\n", false
		select {
		case t, open := <-changes:
			if !open {
				return // the browser comes again
			}
			text, end = c.event(ctx, id, t), t.State.Final()
		case <-tick.C:
			end = c.stopping(ctx)
		case <-ctx.Done():
			return
		}
		if out.send(text) != nil || end {
			return
		}
	}
}

// changes hands on a task as it stands, and again whenever it has changed, until
// it has ended or ctx has.
func (c *Console) changes(ctx context.Context, id string, into chan<- *client.Task) {
	defer close(into)
	for t, err := range c.client.Follow(ctx, id) {
		if err != nil {
			return
		}
		select {
		case into <- t:
		case <-ctx.Done():
			return
		}
	}
}

func (c *Console) stopping(ctx context.Context) bool {
	h, err := c.client.Ready(ctx)
	return err != nil || h.Status != "ok"
}

// event is a task as its page shows it. A last one says that nothing follows.
func (c *Console) event(ctx context.Context, id string, t *client.Task) string {
	var body bytes.Buffer
	v := &view{name: "task", Self: taskPath(id), Data: newOneTask(t), Visitor: visitor(ctx)}
	if err := c.pages.byName["task"].ExecuteTemplate(&body, "live", v); err != nil {
		return ": not rendered\n\n"
	}
	name := "change"
	if t.State.Final() {
		name = "end"
	}
	return fmt.Sprintf("event: %s\ndata: %s\n\n", name, lines.Replace(body.String()))
}

// lines continues an event after each line. A carriage return ends one as well.
//
//nolint:gochecknoglobals // a table
var lines = strings.NewReplacer("\r\n", "\ndata: ", "\n", "\ndata: ", "\r", "\ndata: ")

type stream struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (s stream) send(text string) error {
	if err := s.c.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.c.Flush()
}

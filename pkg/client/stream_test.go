package client_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

// tell writes a task event.
func tell(w http.ResponseWriter, id string, state client.State) {
	_, _ = fmt.Fprintf(w, "event: task\nid: %s\ndata: {\"task_id\":\"t\",\"state\":%q}\n\n", id, state)
	_ = http.NewResponseController(w).Flush()
}

func TestWatchGoesOnWhereTheStreamBroke(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	seen := make(chan string, 3)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.URL.Path + " " + r.Header.Get("Authorization") + " " + r.Header.Get("Last-Event-ID")
		switch calls.Add(1) {
		case 1:
			_, _ = fmt.Fprint(w, "retry: 1\n\n:\n\n")
			tell(w, "a", client.Started)
		case 2:
			panic(http.ErrAbortHandler)
		default:
			tell(w, "b", client.Success)
		}
	})
	var states []client.State
	for task, err := range c.Watch(t.Context(), "t") {
		require.NoError(t, err)
		require.Equal(t, "t", task.TaskID)
		states = append(states, task.State)
	}
	require.Equal(t, []client.State{client.Started, client.Success}, states)
	for _, last := range []string{"", "a", "a"} {
		require.Equal(t, "/v1/tasks/t/events Bearer secret "+last, <-seen)
	}
}

func TestWatchEndsWithWhatCannotBeMended(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusGone, "task-expired", false) })
	var got []error
	for task, err := range c.Watch(t.Context(), "t") {
		require.Nil(t, task)
		got = append(got, err)
	}
	require.Len(t, got, 1)
	require.Equal(t, "task-expired", problemOf(t, got[0]).Slug())
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		tell(w, "a", client.Started)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last error
	for task, err := range c.Watch(ctx, "t") {
		if last = err; err == nil {
			require.Equal(t, client.Started, task.State)
			cancel()
		}
	}
	require.ErrorIs(t, last, context.Canceled)
}

func TestEventsComeBackForWhatWasMissed(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	seen := make(chan string, 2)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.URL.String() + " " + r.Header.Get("Last-Event-ID")
		if calls.Add(1) == 1 {
			_, _ = fmt.Fprint(w, "retry: 1\n\n", "event: change\nid: 6\ndata: {\"task_id\":\"a\",\"state\":\"SUCCESS\",\"name\":null,\"queue\":\"q\",\"time\":\"2026-01-02T03:04:05Z\"}\n\n", "id: 9\n\n")
			return
		}
		_, _ = fmt.Fprint(w, "event: gap\nid: 12\ndata: {}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	filter := client.EventFilter{States: []client.State{client.Success, client.Failure}, Name: "n", Queue: "q", After: "5"}
	var got []client.Event
	for e, err := range c.Events(t.Context(), filter) {
		require.NoError(t, err)
		if got = append(got, *e); e.Gap {
			break
		}
	}
	require.Equal(t, []client.Event{
		{ID: "6", TaskID: "a", State: client.Success, Queue: "q", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{ID: "12", Gap: true},
	}, got)
	for _, last := range []string{"5", "9"} { // the second was told by a heartbeat
		require.Equal(t, "/v1/events?name=n&queue=q&state=SUCCESS&state=FAILURE "+last, <-seen)
	}
}

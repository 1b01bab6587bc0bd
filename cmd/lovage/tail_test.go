package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

// A gateway that ends each stream after two events is come back to, from where it
// was left.
func TestTailShowsWhatBecomesOfTasks(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	streams := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		streams++
		if r.URL.Path != "/v1/events" || r.URL.Query().Encode() != "name=greet&queue=q&state=SUCCESS&state=FAILURE" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		switch r.Header.Get("Last-Event-ID") {
		case "":
			_, _ = fmt.Fprint(w, "retry: 1\n\nevent: change\nid: 1\ndata: {\"task_id\":\"a\",\"state\":\"SUCCESS\",\"name\":\"greet\",\"queue\":\"q\",\"time\":\"2026-01-02T03:04:05.678Z\"}\n\nid: 2\n\n")
		case "2":
			_, _ = fmt.Fprint(w, "event: gap\nid: 3\ndata: {}\n\nevent: change\nid: 4\ndata: {\"task_id\":\"b\\u001b[31m\",\"state\":\"FAILURE\",\"name\":null,\"queue\":null,\"time\":\"2026-01-02T03:04:06Z\"}\n\n")
			_ = http.NewResponseController(w).Flush() // a client that is gone hears nothing more
			time.AfterFunc(100*time.Millisecond, cancel)
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	a := newApp(t, nil)
	a.client = &client.Client{BaseURL: s.URL, HTTPClient: s.Client()}
	c := tailCmd{State: []client.State{client.Success, client.Failure}, Name: "greet", Queue: "q"}
	require.NoError(t, c.Run(ctx, a), "Ctrl-C is how it ends")
	lines := strings.Split(strings.TrimSpace(printed(a)), "\n")
	require.Len(t, lines, 2, printed(a))
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC).Local().Format("15:04:05.000")
	require.Equal(t, at+"  SUCCESS   a  greet  q", lines[0])
	require.Contains(t, lines[1], "FAILURE   b [31m  -  -")
	require.Equal(t, 2, streams)

	a.Output = outputJSON
	require.NoError(t, a.event(&client.Event{TaskID: "a", State: client.Success}))
	require.Contains(t, printed(a), `{"task_id":"a","state":"SUCCESS"`)
	c.Name = "other"
	require.Equal(t, exitGateway, a.fail(c.Run(t.Context(), a)))
}

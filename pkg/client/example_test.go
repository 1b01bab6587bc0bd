package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

// gateway stands in for a real one.
func gateway(_ context.Context) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST /v1/tasks/greet":
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"task_id":"01a1fc69","state":"PENDING","name":"greet"}`)
		case "GET /v1/tasks/01a1fc69":
			_, _ = io.WriteString(w, `{"task_id":"01a1fc69","state":"SUCCESS","name":"greet","result":{"text":"Hello Ada!"}}`)
		case "POST /v1/batches":
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"index":0,"status":202,"task_id":"a"}`+"\n"+
				`{"index":1,"status":404,"problem":{"type":"urn:lovage:problem:unknown-task","status":404,"detail":"no such task"}}`+"\n")
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "5")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"type":"urn:lovage:problem:queue-full","status":429,"retryable":true}`)
		}
	}))
}

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server := gateway(ctx)
	defer server.Close()

	c := &client.Client{BaseURL: server.URL, HTTPClient: server.Client()}
	task, err := c.Submit(ctx, "greet", map[string]any{"name": "Ada", "times": 1}, client.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	task, err = c.Wait(ctx, task.TaskID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(task.State, string(task.Result))
	// Output: SUCCESS {"text":"Hello Ada!"}
}

func ExampleProblem() {
	ctx := context.Background()
	server := gateway(ctx)
	defer server.Close()

	c := &client.Client{BaseURL: server.URL, HTTPClient: server.Client()}
	_, err := c.Submit(ctx, "resize", nil, client.Options{IdempotencyKey: "order-17"})
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Retryable {
		fmt.Println(p.Slug(), "try again after", p.RetryAfter)
	}
	// Output: queue-full try again after 5s
}

func ExampleClient_SubmitBatch() {
	ctx := context.Background()
	server := gateway(ctx)
	defer server.Close()

	c := &client.Client{BaseURL: server.URL, HTTPClient: server.Client()}
	items := func(yield func(client.Envelope) bool) {
		for _, name := range []string{"greet", "gret"} {
			if !yield(client.Envelope{Task: name, Kwargs: map[string]any{"name": "Ada"}}) {
				return
			}
		}
	}
	for answer, err := range c.SubmitBatch(ctx, items) {
		switch {
		case err != nil:
			fmt.Println(err) // what was not answered may or may not be submitted
		case answer.Problem != nil:
			fmt.Println(answer.Index, answer.Problem.Slug())
		default:
			fmt.Println(answer.Index, "accepted")
		}
	}
	// Output:
	// 0 accepted
	// 1 unknown-task
}

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
)

// BatchAnswer says what became of one item of a batch.
type BatchAnswer struct {
	// Index is the place of the item, from 0.
	Index int `json:"index"`
	// Status is 202 when RabbitMQ has confirmed the task, else that of Problem.
	Status int    `json:"status"`
	TaskID string `json:"task_id,omitempty"`
	State  State  `json:"state,omitempty"`
	// Problem is why the item was not submitted.
	Problem *Problem `json:"problem,omitempty"`
}

var errEnough = errors.New("no more answers are wanted")

// SubmitBatch submits any number of tasks over one connection, with constant
// memory, and yields an answer for each, in their order and while the rest is
// still being sent. An item that is refused does not keep the others from being
// submitted.
//
// An error is the last that it yields: the batch as a whole was refused, or the
// connection broke, or ctx ended. Items without an answer may or may not have
// been submitted then; with an [Options].TaskID each it is safe to send them
// again.
//
// The items are taken by a goroutine of its own, which has ended when the loop
// over the answers has: an items that blocks should end with ctx.
func (c *Client) SubmitBatch(ctx context.Context, items iter.Seq[Envelope]) iter.Seq2[BatchAnswer, error] {
	return func(yield func(BatchAnswer, error) bool) {
		r, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = w.CloseWithError(encodeAll(w, items))
		}()
		defer func() {
			_ = r.CloseWithError(errEnough)
			<-done
		}()
		c.SubmitLines(ctx, r)(yield)
	}
}

func encodeAll(w io.Writer, items iter.Seq[Envelope]) error {
	enc := json.NewEncoder(w)
	for item := range items {
		if err := enc.Encode(item); err != nil {
			return fmt.Errorf("item for task %q: %w", item.Task, err)
		}
	}
	return nil
}

// SubmitLines is [Client.SubmitBatch] for items that are JSON already, one
// envelope a line. A line that is not JSON is answered with a problem, and the
// next one is read. A reader that is a [io.Closer] is closed.
func (c *Client) SubmitLines(ctx context.Context, lines io.Reader) iter.Seq2[BatchAnswer, error] {
	return func(yield func(BatchAnswer, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		res, err := c.send(ctx, call{
			method: http.MethodPost, path: path("v1", "batches"), body: lines,
			header: http.Header{"Content-Type": {"application/x-ndjson"}},
		})
		if err != nil {
			yield(BatchAnswer{}, err)
			return
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			yield(BatchAnswer{}, readProblem(res))
			return
		}
		for dec := json.NewDecoder(res.Body); ; {
			var a BatchAnswer
			err := dec.Decode(&a)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = fmt.Errorf("read the answers: %w", err)
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

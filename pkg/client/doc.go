// Package client calls the HTTP API of a Lovage gateway.
//
//	c := &client.Client{BaseURL: "http://127.0.0.1:8080"}
//	task, err := c.Submit(ctx, "sleep_task", map[string]any{"duration": 4}, client.Options{})
//	if err != nil {
//		return err
//	}
//	task, err = c.Wait(ctx, task.TaskID) // until it has ended, or ctx does
//
// When Submit returns, RabbitMQ has confirmed the task. Every call blocks until
// the gateway has answered or its context has ended, and none has a deadline of
// its own: give it a context that has one.
//
// # Errors
//
// What the gateway refuses is a [*Problem], which says what is wrong, with which
// field, and whether the same call may succeed later:
//
//	if p, ok := errors.AsType[*client.Problem](err); ok && p.Retryable {
//		// try again after p.RetryAfter
//	}
//
// Any other error means that no answer came: of the network, or that of the
// context. Nothing is submitted twice by this package on its own. A submission
// without an answer may or may not have arrived; with the same
// [Options].TaskID or [Options].IdempotencyKey it is safe to submit it again.
package client

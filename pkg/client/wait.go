package client

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"time"
)

const (
	// longPoll is how long the gateway is asked to hold an answer, and grace is
	// what the answer may take beyond that.
	longPoll, grace = 20 * time.Second, 10 * time.Second
	// patience is how long a gateway may be away that has answered before.
	patience = 30 * time.Second
	// fresh is how long after a submission its record may not be there yet.
	fresh = 2 * time.Second
	// breath is what lies between two requests that were answered at once.
	breath = time.Second
)

// Wait returns the task when it is in a final state. It asks again and again,
// also while the gateway is away for up to 30 s, and returns an error when that
// lasts longer, when the gateway cannot be reached to begin with, or when ctx
// ends. Without a deadline of ctx it waits for as long as the task takes. A task
// that nobody knows is looked for for two seconds: it may have been submitted
// just now.
func (c *Client) Wait(ctx context.Context, id string) (*Task, error) {
	w := watcher{client: c, id: id, begun: time.Now()}
	for {
		t, _, err := w.look(ctx, "", longPoll)
		if err != nil || t.State.Final() {
			return t, err
		}
	}
}

// Follow yields the task as it stands, and again whenever it has changed, until
// it is in a final state. What changes quickly is not seen in every state. An
// error, under the same conditions as those of [Client.Wait], is the last that
// it yields.
func (c *Client) Follow(ctx context.Context, id string) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		w := watcher{client: c, id: id, begun: time.Now()}
		tag, wait := "", time.Duration(0)
		for {
			t, newTag, err := w.look(ctx, tag, wait)
			if err == nil && t == nil {
				continue
			}
			if !yield(t, err) || err != nil || t.State.Final() {
				return
			}
			tag, wait = newTag, longPoll
		}
	}
}

// watcher looks at one task for as long as it takes.
type watcher struct {
	client  *Client
	id      string
	begun   time.Time
	reached bool // the gateway has answered before
}

// look is that of the client, and tries again while the gateway is away.
func (w *watcher) look(ctx context.Context, tag string, wait time.Duration) (*Task, string, error) {
	for begun := time.Now(); ; {
		asked := time.Now()
		bounded, cancel := context.WithTimeout(ctx, wait+grace)
		t, newTag, err := w.client.look(bounded, w.id, tag, wait)
		cancel()
		if err == nil {
			w.reached = true
			// A gateway that is about to stop answers at once.
			nothing := t == nil || tag == "" && wait > 0 && !t.State.Final()
			if nothing && time.Since(asked) < breath && !pause(ctx, breath) {
				err = ctx.Err()
			}
			return t, newTag, err
		}
		after := w.again(err)
		if after == 0 || ctx.Err() != nil || time.Since(begun) > patience {
			return nil, "", err
		}
		if !pause(ctx, after) {
			return nil, "", ctx.Err()
		}
	}
}

// again is when to try again after an error, 0 for never.
func (w *watcher) again(err error) time.Duration {
	p, ok := errors.AsType[*Problem](err)
	switch {
	case !ok && !w.reached:
		return 0
	case ok && p.Slug() == "task-not-found" && time.Since(w.begun) < fresh:
		return fresh / 20
	case ok && !p.Retryable:
		return 0
	case ok:
		return min(cmp.Or(p.RetryAfter, breath), patience)
	}
	return breath
}

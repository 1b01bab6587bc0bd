package api

import (
	"context"
	"errors"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// firstLook and longestLook bound how long a waiting request trusts that
	// it is told of a change. A notice is lost when the store reconnects.
	firstLook   = 100 * time.Millisecond
	longestLook = 2 * time.Second
)

// watching is a task whose changes a request waits for.
type watching struct {
	id      string
	wait    time.Duration
	changed <-chan struct{}
	stop    func()
}

// watch begins to listen before anything is published or read, so that no
// change falls in between. Without a wait it does nothing.
func (a *API) watch(id string, wait time.Duration) watching {
	if wait <= 0 {
		return watching{id: id, stop: func() {}}
	}
	changed, stop := a.opts.Watcher.Watch(id)
	return watching{id: id, wait: wait, changed: changed, stop: stop}
}

// get reads a record within the read timeout.
func (a *API) get(ctx context.Context, id string) (*messages.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, a.opts.ReadTimeout)
	defer cancel()
	r, err := a.opts.Results.Get(ctx, id)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, errors.Join(messages.ErrStoreUnavailable, err)
	}
	return r, err
}

// finished reports whether there is nothing more to wait for.
func finished(r *messages.Result) bool { return r.State.Final() }

// follow reads the record until enough says so or the wait is over, and returns
// the newest that it has seen. It fails only when it has seen none.
func (a *API) follow(ctx context.Context, w watching, enough func(*messages.Result) bool) (*messages.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, w.wait)
	defer cancel()
	look := time.NewTimer(firstLook)
	defer look.Stop()
	pause := firstLook
	var newest *messages.Result
	for {
		r, err := a.get(ctx, w.id)
		if err == nil {
			newest = r
		}
		if newest != nil && enough(newest) {
			return newest, nil
		}
		select {
		case _, open := <-w.changed:
			if !open {
				w.changed = nil
			}
		case <-look.C:
			pause = min(2*pause, longestLook)
			look.Reset(pause)
		case <-a.draining:
			return latest(newest, err)
		case <-ctx.Done():
			return latest(newest, err)
		}
	}
}

func latest(r *messages.Result, err error) (*messages.Result, error) {
	if r != nil {
		return r, nil
	}
	return nil, err
}

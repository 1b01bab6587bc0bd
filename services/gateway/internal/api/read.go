package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// getTask is GET /v1/tasks/{id}. With "Prefer: wait" it answers when the task
// is final, or, given the ETag of what the client has, when it has changed.
func (a *API) getTask(ctx context.Context, c *call) (*reply, error) {
	exchangeOf(ctx).taskID = c.name
	wait, err := preferredWait(c.request.Header, a.opts.MaxWait)
	if err != nil {
		return nil, err
	}
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	if nameRule(c.name, 255) != "" {
		return nil, newProblem(slugTaskNotFound, "no task has such an id")
	}
	have := c.request.Header.Values("If-None-Match")
	enough := finished
	if len(have) > 0 {
		enough = func(r *messages.Result) bool { return finished(r) || !matches(have, r) }
	}
	r, err := a.read(ctx, c.name, wait, enough)
	if err == nil && !covered(ctx, r) {
		err = messages.ErrNotFound
	}
	if err != nil {
		return nil, a.missing(c.name, err)
	}
	return taskReply(r, have, wait)
}

// read waits only where waiting can help: an id that nobody knows and that we
// did not make will not turn up.
func (a *API) read(ctx context.Context, id string, wait time.Duration, enough func(*messages.Result) bool) (*messages.Result, error) {
	if wait == 0 {
		return a.getSoon(ctx, id)
	}
	w := a.watch(id, wait)
	defer w.stop()
	r, err := a.get(ctx, id)
	switch {
	case err == nil && enough(r):
		return r, nil
	case err == nil:
	case !errors.Is(err, messages.ErrNotFound) || a.age(id) != young:
		return nil, err
	}
	return a.follow(ctx, w, enough)
}

// getSoon looks a few times for the record of an id made a moment ago: the
// record is written beside the answer to a submission, not before it, and a
// client that follows the Location at once may be quicker. A task that the
// credential is not for is as if it were not there.
func (a *API) getSoon(ctx context.Context, id string) (*messages.Result, error) {
	const fresh = 2 * time.Second
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		r, err := a.get(ctx, id)
		if err == nil && !covered(ctx, r) {
			return nil, messages.ErrNotFound
		}
		made, ok := messages.IDTime(id)
		if !errors.Is(err, messages.ErrNotFound) || !ok || time.Since(made) > fresh || pause > 40*time.Millisecond {
			return r, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, err
		}
	}
}

func taskReply(r *messages.Result, have []string, wait time.Duration) (*reply, error) {
	out, err := jsonReply(http.StatusOK, wholeTask(r))
	if err != nil {
		return nil, err
	}
	tag := etag(out.body)
	out.header["ETag"] = tag
	out.header["Cache-Control"] = "private, no-cache"
	if wait > 0 {
		out.header["Preference-Applied"] = applied(wait)
	}
	if matchesTag(have, tag) {
		out.status, out.body = http.StatusNotModified, nil
	}
	return out, nil
}

// matches reports whether the client has this very record.
func matches(have []string, r *messages.Result) bool {
	body, err := encodeJSON(wholeTask(r))
	return err == nil && matchesTag(have, etag(body))
}

// matchesTag compares weakly, as RFC 9110 asks of If-None-Match.
func matchesTag(have []string, tag string) bool {
	for _, line := range have {
		for one := range strings.SplitSeq(line, ",") {
			one = strings.TrimSpace(one)
			if one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// The ages of an id.
const (
	foreignID = iota // not a UUIDv7, or one from the future
	young            // its record may still come
	expired          // its record, if there ever was one, is gone
)

// age tells what a UUIDv7 says about the record that is not there.
func (a *API) age(id string) int {
	const clockSkew = time.Minute
	made, ok := messages.IDTime(id)
	since := time.Since(made)
	switch {
	case !ok || since < -clockSkew:
		return foreignID
	case since > a.opts.Retention:
		return expired
	default:
		return young
	}
}

// missing says why there is no record.
func (a *API) missing(id string, err error) error {
	p := problemOf(err)
	if errors.Is(err, messages.ErrNotFound) {
		switch a.age(id) {
		case young:
			p = newProblem(slugNotRecorded, "there is no record of this task yet: it was not submitted, or it waits in its queue and the result store was away when it came")
		case expired:
			p = newProblem(slugExpired, "records are not kept that long; this one is gone")
		default:
			p = newProblem(slugTaskNotFound, "there is no record of a task with this id")
		}
	}
	p.TaskID = id
	return p
}

// stored asks the store, which has so long to answer.
func stored[T any](ctx context.Context, a *API, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, a.opts.ReadTimeout)
	defer cancel()
	v, err := ask(ctx)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(messages.ErrStoreUnavailable, err)
	}
	return v, err
}

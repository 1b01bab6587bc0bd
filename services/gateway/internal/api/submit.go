package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// submission is a task that is about to be published.
type submission struct {
	task  *messages.Task
	delay time.Duration
	wait  time.Duration
	// terms are what it can be found by, see [messages.Terms].
	terms []string
	// timeout bounds the publish; the default if zero.
	timeout time.Duration
	// single tells a submission of its own from an item of a batch.
	single bool
	// callback is what is called when the task has ended; empty for nothing.
	callback string
	// span is that of the submission while it is sent, nil without tracing.
	span trace.Span
}

// submitNamed is POST /v1/tasks/{name}: the body is the task's own input.
func (a *API) submitNamed(ctx context.Context, c *call) (*reply, error) {
	wait, err := preferredWait(c.request.Header, a.opts.MaxWait)
	if err != nil {
		return nil, err
	}
	versions, err := a.catalog.find(ctx, c.name)
	if err != nil {
		return nil, err
	}
	body, err := readBody(c, a.opts.MaxBody)
	if err != nil {
		return nil, err
	}
	o := a.newOptions(submittedAt())
	errs := parseQuery(a.options, c.request.URL.RawQuery, &o)
	errs = append(errs, o.conflicts(atParameter)...)
	entry, wrong := checkInput(versions, body)
	if errs = append(errs, wrong...); len(errs) > 0 {
		return nil, invalid(slugOf(wrong), errs)
	}
	t := &messages.Task{Name: c.name, Kwargs: body}
	s := a.submission(t, o, entry, wait)
	if err := maySubmit(ctx, t); err != nil {
		return nil, err
	}
	return a.submit(ctx, c, s)
}

func (a *API) newOptions(now time.Time) submitOptions {
	return submitOptions{now: now, checkCallback: a.checkCallback}
}

// submittedAt is the present in what the wire can carry.
func submittedAt() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// checkInput wants an object that a version of the task takes.
func checkInput(versions []version, body json.RawMessage) (messages.CatalogEntry, []fieldError) {
	if body[0] != '{' {
		return messages.CatalogEntry{}, []fieldError{atPointer("", "must be an object with the fields of the task's input")}
	}
	return accept(versions, func(messages.CatalogEntry) (json.RawMessage, []fieldError) { return body, nil })
}

// slugOf tells wrong input from wrong parameters around it.
func slugOf(input []fieldError) slug {
	if len(input) > 0 {
		return slugInput
	}
	return slugParameters
}

// submission fills in what the options and the catalog say.
func (a *API) submission(t *messages.Task, o submitOptions, entry messages.CatalogEntry, wait time.Duration) submission {
	t.ID, t.Queue, t.Created = o.taskID, o.queue, o.now
	if t.ID == "" {
		t.ID = messages.NewID()
	}
	if t.Queue == "" {
		t.Queue = entry.Queue
	}
	t.Origin = a.origin
	t.ETA, t.Expires, t.MaxRetries = o.eta, o.expires, o.maxRetries
	t.TimeLimit, t.SoftTimeLimit, t.IgnoreResult, t.Retention = o.timeLimit, o.softTimeLimit, o.ignoreResult, o.retention
	s := submission{task: t, delay: o.delay(), wait: wait, terms: terms(entry, t), callback: o.callback}
	if a.foreign[t.Queue] || entry.Foreign && t.Queue == entry.Queue {
		// Celery holds the message until the ETA itself.
		s.delay = 0
	}
	if t.IgnoreResult {
		// There will be no record to wait for.
		s.wait = 0
	}
	return s
}

// submit publishes, leaves a record and answers.
func (a *API) submit(ctx context.Context, c *call, s submission) (*reply, error) {
	t := s.task
	if c.held != nil {
		t.ID = c.held.ID
	}
	exchangeOf(ctx).taskID = t.ID
	s.timeout, s.single = c.timeout, true
	t.TraceParent, t.TraceState = c.trace(ctx)
	watch := a.watch(t.ID, s.wait)
	defer watch.stop()
	record, err := a.send(ctx, c.held, s)
	if err != nil {
		return nil, err
	}
	if s.wait > 0 {
		if r, err := a.follow(ctx, watch, finished); err == nil {
			record = r
		}
	}
	return submitted(record, s.wait)
}

// send publishes and leaves a record, which it returns.
func (a *API) send(ctx context.Context, h *held, s submission) (*messages.Result, error) {
	if err := a.publishOnce(ctx, h, s); err != nil {
		return nil, err
	}
	pending := s.record()
	if !s.task.IgnoreResult {
		a.opts.Recorder.Record(pending)
	}
	return pending, nil
}

// publish returns when the broker has confirmed the message, or a problem that
// says what is known about it.
func (a *API) publish(ctx context.Context, s submission) error {
	a.sending(ctx, &s)
	m, err := encode(s)
	if err != nil {
		return s.sent(err)
	}
	settle, err := a.promise(ctx, s)
	if err != nil {
		return s.sent(err)
	}
	bounded, cancel := context.WithTimeout(ctx, cmp.Or(s.timeout, a.opts.PublishTimeout))
	defer cancel()
	err = a.enqueue(bounded, s, m)
	settle(err)
	return s.sent(s.problem(err))
}

func encode(s submission) (*messages.Message, error) {
	m, err := messages.Encode(s.task)
	return m, s.problem(err)
}

// problem says what the error of a publish means for the task.
func (s submission) problem(err error) error {
	if err == nil {
		return nil
	}
	p := problemOf(err)
	p.TaskID = s.task.ID
	switch full, ok := errors.AsType[*messages.QueueFullError](err); {
	case ok:
		p.after = full.RetryAfter
		p.Detail = fmt.Sprintf("%d tasks wait in queue %q, which is as many as may (LOVAGE_MAX_QUEUE_DEPTH); nothing was sent: add workers, or send it again after Retry-After", full.Limit, full.Queue)
	case p.kind == slugUnconfirmed:
		p.Detail = "the task was sent but the broker has not confirmed it in time: it may or may not run; submit again with this task_id, or GET it"
	}
	return p
}

// pendingRecord is what is known about a task that was just published.
func pendingRecord(t *messages.Task) *messages.Result {
	return &messages.Result{
		TaskID: t.ID, State: messages.Pending, Name: t.Name, Args: t.Args, Kwargs: t.Kwargs, Queue: t.Queue,
		DateCreated: t.Created, ETA: t.ETA, Expires: t.Expires, Attempts: t.Attempts,
	}
}

// record is that of a submission.
func (s submission) record() *messages.Result {
	r := pendingRecord(s.task)
	r.Terms = s.terms
	return r
}

// terms are what a task of a kind can be found by. An input that does not fit the
// kind has none.
func terms(entry messages.CatalogEntry, t *messages.Task) []string {
	if len(entry.Indexed) == 0 {
		return nil
	}
	input, err := messages.Input(t.Args, t.Kwargs, entry.Params)
	if err != nil {
		return nil
	}
	return messages.Terms(input, entry.Indexed)
}

// submitted answers 200 with the outcome when the client waited for it, else
// 202 with what is known so far.
func submitted(r *messages.Result, wait time.Duration) (*reply, error) {
	status := http.StatusAccepted
	if wait > 0 && r.State.Final() {
		status = http.StatusOK
	}
	out := &reply{status: status, header: map[string]string{}}
	if wait == 0 { // then the record is that of pendingRecord
		out.body = pendingJSON(r)
	} else {
		var err error
		if out.body, err = encodeJSON(wholeTask(r)); err != nil {
			return nil, err
		}
	}
	out.header["Location"] = location(r.TaskID)
	if wait > 0 {
		out.header["Preference-Applied"] = applied(wait)
	}
	if status == http.StatusOK {
		out.header["ETag"] = etag(out.body)
	}
	return out, nil
}

// location is where a task can be read.
func location(id string) string { return "/v1/tasks/" + url.PathEscape(id) }

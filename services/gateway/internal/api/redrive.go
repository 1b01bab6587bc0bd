package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Restarter begins new runs of tasks that have ended.
type Restarter interface {
	// Restart makes r, of state PENDING and a run above all before, the record
	// of its task. Its error is [messages.ErrStoreUnavailable].
	Restart(ctx context.Context, r *messages.Result, ignoreResult bool) (Restarted, error)
}

// Restarted says what a restart came to.
type Restarted string

// The outcomes of a restart.
const (
	RestartReady      Restarted = "OK"         // its message is to be published
	RestartSuperseded Restarted = "SUPERSEDED" // this run has ended, or a later one has begun
	RestartRunning    Restarted = "RUNNING"    // a worker holds the run before
)

// ErrPassing says that somebody else passes over the dead letters of the queue.
var ErrPassing = errors.New("somebody else works with the dead letters of this queue")

var errPassTooLong = errors.New("the pass took too long")

const (
	defaultRedrive = 1000
	maxRedrive     = 100_000
	maxRate        = 10_000
)

// Counts are what became of dead letters.
type Counts struct {
	Matched     int `json:"matched" doc:"Dead letters that the filter meant, up to the limit."`
	Redriven    int `json:"redriven" doc:"Sent again, under the same id and with a run more."`
	Discarded   int `json:"discarded" doc:"Gone for good."`
	Superseded  int `json:"superseded" doc:"Of tasks that were sent again before. They are gone from the dead letters, and the task is as it is."`
	Undecodable int `json:"undecodable" doc:"Cannot be read, so they stay: they can only be discarded."`
	Running     int `json:"running" doc:"Of tasks that somebody runs, so they stay."`
}

// removed is how many are no dead letters any more.
func (c *Counts) removed() int { return c.Redriven + c.Discarded + c.Superseded }

// dealt is what a pass has come to.
type dealt struct {
	Counts
	More   bool `json:"more" doc:"Whether there are more: ask again."`
	DryRun bool `json:"dry_run" doc:"Whether nothing was done."`
}

// bulkParams is the table of what a bulk operation can be asked for.
func bulkParams() []param[deadQuery] {
	type query = deadQuery
	return append(deadFilterParams(),
		param[query]{
			name: "all", schema: &huma.Schema{Type: huma.TypeBoolean}, doc: "Mean all of them. Needed when nothing else says which.",
			set: func(q *query, s string) string { return setBool(&q.all, s) },
		},
		param[query]{
			name: "limit", doc: fmt.Sprintf("At most this many; without it %d, and all when respond-async is preferred.", defaultRedrive),
			schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxRedrive))},
			set:    func(q *query, s string) string { return setInt(&q.limit, s, 1, maxRedrive) },
		},
		param[query]{
			name: "rate", schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxRate))}, doc: "At most so many a second.",
			set: func(q *query, s string) string { return setInt(&q.rate, s, 1, maxRate) },
		},
		param[query]{
			name: "dry_run", schema: &huma.Schema{Type: huma.TypeBoolean}, doc: "Only count.",
			set: func(q *query, s string) string { return setBool(&q.dryRun, s) },
		})
}

// redriveDead is POST /v1/queues/{queue}/redrive.
func (a *API) redriveDead(ctx context.Context, c *call) (*reply, error) {
	return a.bulk(ctx, c, kindRedrive)
}

// discardDead is POST /v1/queues/{queue}/discard.
func (a *API) discardDead(ctx context.Context, c *call) (*reply, error) {
	return a.bulk(ctx, c, kindDiscard)
}

// bulk does something with every dead letter that the query means: beside the
// requests when the client prefers that. Otherwise it ends when the client hangs
// up: what is done by then is done.
func (a *API) bulk(ctx context.Context, c *call, kind string) (*reply, error) {
	var q deadQuery
	errs := parseQuery(bulkParams(), c.request.URL.RawQuery, &q)
	if len(errs) == 0 && !q.all && !q.selective() {
		errs = append(errs, atParameter("all", "say which ones are meant by name, reason, group, since or until, or give all=true"))
	}
	if len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	if prefersAsync(c.request.Header) && !q.dryRun {
		return a.beginOperation(ctx, kind, c.queue, &q)
	}
	if q.limit == 0 {
		q.limit = defaultRedrive
	}
	d := a.newDealer(kind, c.queue, q)
	err := a.pass(ctx, c.queue, func(ctx context.Context, m *messages.Message) (Verdict, error) { return d.deal(ctx, ctx, m) })
	switch {
	case errors.Is(err, errPassTooLong) && ctx.Err() == nil:
		d.out.More = true // what was done is worth an answer
	case err != nil:
		return nil, partly(err, d.out)
	}
	return jsonReply(http.StatusOK, d.out)
}

// dealer deals with the dead letters that a query means, at its rate.
type dealer struct {
	query deadQuery
	do    func(context.Context, *messages.Message, *dealt) (Verdict, error)
	pace  *rate.Limiter
	free  bool // nothing was done for the last one, whose turn the next one takes
	out   dealt
}

func (a *API) newDealer(kind, queue string, q deadQuery) *dealer {
	pace := maxRate
	if q.rate > 0 {
		pace = q.rate
	}
	d := &dealer{query: q, pace: rate.NewLimiter(rate.Limit(pace), 1), out: dealt{DryRun: q.dryRun}}
	switch kind {
	case kindRedrive:
		d.do = func(ctx context.Context, m *messages.Message, out *dealt) (Verdict, error) {
			return a.redrive(ctx, queue, m, nil, out)
		}
	case kindDiscard:
		d.do = func(_ context.Context, _ *messages.Message, out *dealt) (Verdict, error) {
			out.Discarded++
			return Remove, nil
		}
	default:
		d.do = func(context.Context, *messages.Message, *dealt) (Verdict, error) {
			return Keep, fmt.Errorf("nobody knows how to %q dead letters", kind)
		}
	}
	return d
}

// deal deals with one letter. It waits for its turn no longer than waiting
// lives.
func (d *dealer) deal(ctx, waiting context.Context, m *messages.Message) (Verdict, error) {
	l := newDeadLetter(m)
	if !d.query.match(&l) {
		return Keep, nil
	}
	if d.out.Matched == d.query.limit {
		d.out.More = true
		return Stop, nil
	}
	d.out.Matched++
	if d.query.dryRun {
		return Keep, nil
	}
	if !d.free {
		if err := d.pace.Wait(waiting); err != nil {
			return Keep, errors.Join(err, errPassTooLong)
		}
	}
	before := d.out.Redriven + d.out.Discarded
	v, err := d.do(ctx, m, &d.out)
	d.free = d.out.Redriven+d.out.Discarded == before
	return v, err
}

// partly adds to a problem what was done before it.
func partly(err error, d dealt) error {
	p := problemOf(err)
	if done := d.removed(); done > 0 {
		p.Detail = fmt.Sprintf("%s; %d were dealt with before that", p.Detail, done)
	}
	return p
}

// redriveOne is POST /v1/queues/{queue}/dead/{id}/redrive. A body is the new
// input.
func (a *API) redriveOne(ctx context.Context, c *call) (*reply, error) {
	exchangeOf(ctx).taskID = c.name
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	var input []byte
	if c.request.ContentLength != 0 {
		var err error
		if input, err = readBody(c, a.opts.MaxBody); err != nil {
			return nil, err
		}
		if input[0] != '{' {
			return nil, invalid(slugInput, []fieldError{atPointer("", "must be an object: the task's own input")})
		}
	}
	d, err := a.one(ctx, c, func(ctx context.Context, m *messages.Message, d *dealt) (Verdict, error) {
		return a.redrive(ctx, c.queue, m, input, d)
	})
	if err != nil {
		return nil, err
	}
	return a.redriven(c.name, d)
}

// redriven answers for one task.
func (a *API) redriven(id string, d dealt) (*reply, error) {
	var p *problem
	switch {
	case d.Superseded > 0:
		p = newProblem(slugEnded, "it was sent again before; its old dead letter is removed, and the task is as it is")
	case d.Running > 0:
		p = newProblem(slugNotEnded, "a worker runs it")
	case d.Undecodable > 0:
		p = newProblem(slugUndecodable, "its message cannot be read, so no worker can run it; discard it")
	default:
		return jsonReply(http.StatusAccepted, restarted{TaskID: id, State: messages.Pending})
	}
	p.TaskID = id
	return nil, p
}

// discardOne is DELETE /v1/queues/{queue}/dead/{id}.
func (a *API) discardOne(ctx context.Context, c *call) (*reply, error) {
	exchangeOf(ctx).taskID = c.name
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	_, err := a.one(ctx, c, func(_ context.Context, _ *messages.Message, d *dealt) (Verdict, error) {
		d.Discarded++
		return Remove, nil
	})
	if err != nil {
		return nil, err
	}
	return &reply{status: http.StatusNoContent}, nil
}

// one does something with the dead letters of one task: there can be two of
// them when a worker died while it made the first.
func (a *API) one(ctx context.Context, c *call, do func(context.Context, *messages.Message, *dealt) (Verdict, error)) (dealt, error) {
	var d dealt
	err := a.pass(ctx, c.queue, func(ctx context.Context, m *messages.Message) (Verdict, error) {
		if l := newDeadLetter(m); l.TaskID != c.name {
			return Keep, nil
		}
		d.Matched++
		return do(ctx, m, &d)
	})
	if err == nil && d.Matched == 0 {
		err = noDeadLetter(c)
	}
	if d.Redriven > 0 {
		d.Superseded = 0 // its second letter
	}
	return d, err
}

// redrive sends the task of a dead letter again: first its record begins a new
// run, then its message is published and confirmed, then the letter goes.
// Whatever dies in between, doing it again is safe, because it leads to the same
// run.
func (a *API) redrive(ctx context.Context, queue string, m *messages.Message, input []byte, d *dealt) (Verdict, error) {
	t, err := messages.Decode(m)
	if err != nil {
		d.Undecodable++
		return Keep, nil //nolint:nilerr // it is an answer
	}
	t.Queue = queue
	dead, _ := messages.DecodeDeadLetter(m) // it is one
	t.Attempts = messages.Remember(t.Attempts, messages.PastAttempt{
		Run: t.Run, Number: dead.Attempts, State: messages.Failure, Worker: dead.Worker, Error: dead.Error, Ended: dead.LastTime,
	})
	if input != nil {
		t.Args, t.Kwargs, t.ArgsRepr, t.KwargsRepr = nil, input, "", ""
	}
	switch state, err := a.restart(ctx, t); {
	case err != nil:
		return Keep, err
	case state == RestartSuperseded:
		d.Superseded++
		return Remove, nil
	case state == RestartRunning:
		d.Running++
		return Keep, nil
	}
	d.Redriven++
	return Remove, nil
}

// restart begins the next run of a task and publishes its message.
func (a *API) restart(ctx context.Context, t *messages.Task) (Restarted, error) {
	if err := a.states.takes(t.Queue); err != nil {
		return "", err
	}
	t.Run++
	t.Retries, t.ETA, t.Expires = 0, time.Time{}, time.Time{}
	m, err := messages.Encode(t)
	if err != nil {
		return "", err
	}
	r := pendingRecord(t)
	r.Run = t.Run
	if versions := a.catalog.peek(t.Name); len(versions) > 0 {
		r.Terms = terms(versions[0].entry, t) // its input may be another one
	}
	store, cancel := context.WithTimeout(ctx, a.opts.ReadTimeout)
	defer cancel()
	state, err := a.opts.Restarter.Restart(store, r, t.IgnoreResult)
	if err != nil || state != RestartReady {
		return state, err
	}
	publish, cancel := context.WithTimeout(ctx, a.opts.PublishTimeout)
	defer cancel()
	return state, a.opts.Publisher.Enqueue(publish, t.Queue, 0, m)
}

// retryTask is POST /v1/tasks/{id}/retry: a task that has failed or was revoked
// runs anew, from its dead letter where there is one, else from its record.
func (a *API) retryTask(ctx context.Context, c *call) (*reply, error) {
	r, err := a.steered(ctx, c)
	if err != nil {
		return nil, err
	}
	if r.State != messages.Failure && r.State != messages.Revoked {
		p := newProblem(slugNotEnded, fmt.Sprintf("it is in state %s; only a task that has failed or was revoked is run again", r.State))
		p.TaskID = c.name
		return nil, p
	}
	if r.State == messages.Failure {
		c.queue = r.Queue
		d, err := a.one(ctx, c, func(ctx context.Context, m *messages.Message, d *dealt) (Verdict, error) {
			return a.redrive(ctx, c.queue, m, nil, d)
		})
		if p := new(problem); !errors.As(err, &p) || p.kind != slugNoDeadLetter {
			if err != nil {
				return nil, err
			}
			return a.redriven(c.name, d)
		}
	}
	t := a.taskOf(r)
	t.TraceParent, t.TraceState = c.trace(ctx) // the record does not know the first one
	state, err := a.restart(ctx, t)
	if err != nil {
		return nil, err
	}
	var d dealt
	switch state {
	case RestartSuperseded:
		d.Superseded++
	case RestartRunning:
		d.Running++
	case RestartReady:
	}
	return a.redriven(c.name, d)
}

// taskOf is the task of a record, as far as that knows it.
func (a *API) taskOf(r *messages.Result) *messages.Task {
	t := &messages.Task{
		ID: r.TaskID, Name: r.Name, Args: r.Args, Kwargs: r.Kwargs, Queue: r.Queue, Run: r.Run, Created: r.DateCreated,
		ParentID: r.ParentID, RootID: r.RootID, Group: r.GroupID, Origin: a.origin,
		Attempts: r.Attempts,
	}
	if !r.DateStarted.IsZero() {
		t.Attempts = messages.Remember(t.Attempts, r.PastAttempt(r.DateDone))
	}
	return t
}

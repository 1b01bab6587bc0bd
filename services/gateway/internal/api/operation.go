package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// StoredOperation is an operation as all gateways see it.
type StoredOperation struct {
	ID, Queue string
	Record    []byte // by us, opaque to the store
	State     string // empty until it has ended
	Held      bool   // a gateway works on it
	Cancelled bool   // it was asked to stop
}

// Operations are those of all gateways. Errors are
// [messages.ErrStoreUnavailable] and those named.
type Operations interface {
	// List returns those of a queue, the newest first.
	List(ctx context.Context, queue string) ([]StoredOperation, error)
	// Open returns those of all queues that have not ended.
	Open(ctx context.Context) ([]StoredOperation, error)
	// Cancel asks whoever works on it to stop. [messages.ErrNotFound] when
	// there is none under this id that has not ended.
	Cancel(ctx context.Context, id string) error
}

// OperationLeases say who works on an operation. Errors are
// [messages.ErrStoreUnavailable] and those named.
type OperationLeases interface {
	// Begin enters an operation that its caller works on, under a token of its
	// own. When its queue has another that has not ended, nothing is entered
	// and the id of that is the answer.
	Begin(ctx context.Context, o StoredOperation, token string) (running string, err error)
	// Take takes over what nobody works on any more, [messages.ErrLost] when
	// somebody does or it has ended.
	Take(ctx context.Context, id, token string) (StoredOperation, error)
	// Save writes the record. Held renews the lease; without it others may take
	// it over, and with a State it has ended. The answer is whether it was asked
	// to stop, [messages.ErrLost] when somebody else has taken it.
	Save(ctx context.Context, o StoredOperation, token string) (cancelled bool, err error)
}

// The states of an operation. Of those that have not ended it depends on who
// looks which it is.
const (
	stateRunning     = "running"
	stateInterrupted = "interrupted"
	stateDone        = "done"
	stateCancelled   = "cancelled"
	stateFailed      = "failed"
)

// The kinds of operations.
const (
	kindRedrive = "redrive"
	kindDiscard = "discard"
)

// operationFilter is what an operation was asked for.
type operationFilter struct {
	Name   *string    `json:"name" doc:"Only tasks of this kind."`
	Reason *string    `json:"reason" doc:"Only those that are dead for this reason."`
	Group  *string    `json:"group" doc:"Only those of this group."`
	Since  *time.Time `json:"since" doc:"Only those that came at or after this time."`
	Until  *time.Time `json:"until" doc:"Only those that came before this time."`
	Limit  *int       `json:"limit" doc:"At most this many; null for all."`
}

// operation is a redrive or a discard of many beside the requests.
type operation struct {
	ID     string          `json:"id" doc:"Id of the operation."`
	Kind   string          `json:"kind" enum:"redrive,discard"`
	Queue  string          `json:"queue"`
	State  string          `json:"state" enum:"running,interrupted,done,cancelled,failed" doc:"Interrupted: its gateway has stopped or died; another one goes on with it."`
	Filter operationFilter `json:"filter" doc:"Which dead letters are meant, of those that were there when it started."`
	Rate   *int            `json:"rate" doc:"At most so many a second; null for any number."`
	Looked int             `json:"looked" doc:"Dead letters that were looked at."`
	Counts
	More       bool       `json:"more" doc:"Whether it has left some because of its limit."`
	Cancelling bool       `json:"cancelling" doc:"Whether it was asked to stop and has not yet."`
	Started    time.Time  `json:"started"`
	Updated    time.Time  `json:"updated" doc:"When it last got further."`
	Ended      *time.Time `json:"ended"`
	Error      *string    `json:"error" doc:"Why it has failed, or what keeps it from getting further now."`
}

// operationRecord is what the store keeps of an operation.
type operationRecord struct {
	operation
	// Starts are those of gateways since it last took a letter out.
	Starts int `json:"starts"`
	// Bulk is set for an operation on tasks.
	Bulk *bulkRecord `json:"bulk,omitempty"`
}

type operationList struct {
	Operations []operation `json:"operations" nullable:"false" doc:"The newest first."`
}

// newOperation is what the query asks for. It means no letter that comes later:
// what fails again would otherwise be sent again for ever.
func newOperation(kind, queue string, q *deadQuery) operation {
	now := time.Now().UTC().Truncate(time.Millisecond) // no finer than what letters say
	until := now
	if !q.until.IsZero() && q.until.Before(now) {
		until = q.until
	}
	o := operation{
		ID: messages.NewID(), Kind: kind, Queue: queue, State: stateRunning, Started: now, Updated: now,
		Filter: operationFilter{Name: text(q.name), Reason: text(q.reason), Group: text(q.group), Since: instant(q.since), Until: &until},
	}
	if q.limit > 0 {
		o.Filter.Limit = &q.limit
	}
	if q.rate > 0 {
		o.Rate = &q.rate
	}
	return o
}

// query is what the operation was asked for, without the limit.
func (o *operation) query() deadQuery {
	f := &o.Filter
	return deadQuery{name: value(f.Name), reason: value(f.Reason), group: value(f.Group), since: value(f.Since), until: value(f.Until), rate: value(o.Rate)}
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// store is the operation as the store keeps it.
func (o *operationRecord) store(state string, held bool) (StoredOperation, error) {
	record, err := json.Marshal(o)
	return StoredOperation{ID: o.ID, Queue: o.Queue, Record: record, State: state, Held: held}, err
}

// read is the operation, with the state that it is in now.
func (s *StoredOperation) read() (o operationRecord, err error) {
	if err := json.Unmarshal(s.Record, &o); err != nil {
		return o, fmt.Errorf("read operation %s: %w", s.ID, err)
	}
	o.Cancelling = s.Cancelled && s.State == ""
	switch {
	case s.State != "":
		o.State = s.State
	case s.Held:
		o.State = stateRunning
	default:
		o.State = stateInterrupted
	}
	return o, nil
}

// beginOperation answers a request that prefers not to wait.
func (a *API) beginOperation(ctx context.Context, kind, queue string, q *deadQuery) (*reply, error) {
	if err := checkQueue(queue); err != nil {
		return nil, err
	}
	view := newOperation(kind, queue, q)
	if err := a.begin(ctx, operationRecord{operation: view}); err != nil {
		return nil, err
	}
	out, err := jsonReply(http.StatusAccepted, view)
	if err != nil {
		return nil, err
	}
	out.header["Location"] = operationPath(queue, view.ID)
	out.header["Preference-Applied"] = respondAsync
	return out, nil
}

// begin enters an operation, and sees to it that somebody works on it.
func (a *API) begin(ctx context.Context, o operationRecord) error {
	if !a.operating.tryEnter() {
		return newProblem(slugOverloaded, fmt.Sprintf("this gateway works on %d operations", cap(a.operating)))
	}
	w := &work{token: messages.NewID(), op: o}
	running, err := stored(ctx, a, func(ctx context.Context) (string, error) {
		s, err := w.op.store("", true)
		if err != nil {
			return "", err
		}
		return a.opts.OperationLeases.Begin(ctx, s, w.token)
	})
	if err != nil || running != "" {
		a.operating.leave()
		if err == nil {
			err = busyWith(o.Queue, running)
		}
		return err
	}
	select {
	case a.begun <- w:
	case <-a.draining: // another gateway takes it over
		a.conclude(ctx, w, errDraining)
		a.operating.leave()
	}
	return nil
}

func operationPath(queue, id string) string {
	if queue == scopeTasks {
		return routeTaskOperations + "/" + url.PathEscape(id)
	}
	return "/v1/queues/" + url.PathEscape(queue) + "/operations/" + url.PathEscape(id)
}

func busyWith(queue, id string) *problem {
	p := newProblem(slugOperationOpen, "see "+operationPath(queue, id)+"; wait for its end, or cancel it")
	p.OperationID = id
	return p
}

// listOperations is GET /v1/queues/{queue}/operations.
func (a *API) listOperations(ctx context.Context, c *call) (*reply, error) {
	list, err := a.operationsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, operationList{Operations: list})
}

func (a *API) operationsOf(ctx context.Context, c *call) ([]operation, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	if err := checkQueue(c.queue); err != nil {
		return nil, err
	}
	kept, err := a.operationsIn(ctx, c.queue)
	list := make([]operation, 0, len(kept))
	for _, o := range kept {
		list = append(list, o.operation)
	}
	return list, err
}

// operationsIn are those on a queue, or those on tasks.
func (a *API) operationsIn(ctx context.Context, queue string) ([]operationRecord, error) {
	kept, err := stored(ctx, a, func(ctx context.Context) ([]StoredOperation, error) { return a.opts.Operations.List(ctx, queue) })
	if err != nil {
		return nil, err
	}
	list := make([]operationRecord, 0, len(kept))
	for _, s := range kept {
		o, err := s.read()
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, nil
}

// getOperation is GET /v1/queues/{queue}/operations/{id}.
func (a *API) getOperation(ctx context.Context, c *call) (*reply, error) {
	o, err := a.operation(ctx, c)
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, o)
}

func (a *API) operation(ctx context.Context, c *call) (*operation, error) {
	list, err := a.operationsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(o operation) bool { return o.ID == c.name })
	if i < 0 {
		p := newProblem(slugNoOperation, "queue "+strconv.Quote(c.queue)+" has no operation of this id, or has had too many since")
		p.OperationID = c.name
		return nil, p
	}
	return &list[i], nil
}

// cancelOperation is POST /v1/queues/{queue}/operations/{id}/cancel. To cancel
// what is cancelled already is fine.
func (a *API) cancelOperation(ctx context.Context, c *call) (*reply, error) {
	o, err := a.operation(ctx, c)
	if err != nil {
		return nil, err
	}
	asked, err := a.askToStop(ctx, o.ID, o.State)
	switch {
	case err != nil:
		return nil, err
	case asked:
		o.Cancelling = true
		return jsonReply(http.StatusAccepted, o)
	}
	if o, err = a.operation(ctx, c); err != nil { // it may have ended just now
		return nil, err
	}
	if o.State == stateCancelled {
		return jsonReply(http.StatusOK, o)
	}
	return nil, ended(o.ID, o.State)
}

// askToStop asks for the end of an operation that has not ended.
func (a *API) askToStop(ctx context.Context, id, state string) (asked bool, err error) {
	if state != stateRunning && state != stateInterrupted {
		return false, nil
	}
	_, err = stored(ctx, a, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, a.opts.Operations.Cancel(ctx, id)
	})
	if errors.Is(err, messages.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func ended(id, state string) *problem {
	p := newProblem(slugOperationEnded, "it is "+state)
	p.OperationID = id
	return p
}

package delivery

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// base is the record of a task in a state, without an outcome.
func (p *Processor) base(t *task, s messages.State) *messages.Result {
	return &messages.Result{
		TaskID: t.ID, State: s, Name: t.Name, Args: t.Args, Kwargs: t.Kwargs,
		GroupID: t.Group, ParentID: t.ParentID, RootID: t.RootID,
		Worker: p.opts.Worker, Retries: t.Retries, Run: t.Run, Attempts: t.Attempts, Queue: t.Queue,
		DateCreated: created(t), DateStarted: t.started, ETA: t.ETA, Expires: t.Expires,
	}
}

// record is the record of an outcome.
func (p *Processor) record(t *task, o Outcome) *messages.Result {
	r := p.base(t, o.State)
	r.Value, r.Error, r.Reason = o.Value, o.Err, o.Reason
	if o.PackAbove > 0 && len(o.Value) > o.PackAbove && !t.IgnoreResult {
		r.Pack()
	}
	switch {
	case o.State == messages.Retry:
		now := time.Now()
		r.NextAttempt = now.Add(o.RetryIn)
		r.Attempts = messages.Remember(t.Attempts, r.PastAttempt(now))
	case o.State.Final():
		r.DateDone = time.Now()
	}
	return r
}

// letter is what a dead letter says about itself.
func (p *Processor) letter(t *task, r *messages.Result) messages.DeadLetter {
	d := messages.DeadLetter{
		Queue: t.Queue, Run: t.Run, Attempts: t.Retries + 1, Worker: p.opts.Worker,
		FirstTime: created(t), LastTime: time.Now(),
	}
	if r == nil {
		return d
	}
	d.Reason, d.Worker, d.LastTime = r.Reason, r.Worker, r.DateDone
	if r.Error != nil {
		d.Error, d.Stack = r.Error.Type+": "+r.Error.Message, r.Error.Traceback
	}
	return d
}

// created is when the task was submitted, as far as anybody said.
func created(t *task) time.Time {
	if !t.Created.IsZero() {
		return t.Created
	}
	if at, ok := messages.IDTime(t.ID); ok {
		return at
	}
	return t.started
}

// hasSuccessors reports whether a message asks for tasks after this one.
func hasSuccessors(embed json.RawMessage) bool {
	if len(embed) == 0 || embed[0] != '{' {
		return false
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(embed, &parts) != nil {
		return false
	}
	for _, name := range []string{"callbacks", "errbacks", "chain", "chord"} {
		switch v := bytes.TrimSpace(parts[name]); string(v) {
		case "", "null", "[]":
		default:
			return true
		}
	}
	return false
}

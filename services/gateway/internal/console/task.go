package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/client"
)

// oneTask is what the page of a task shows.
type oneTask struct {
	*client.Task

	// Steps are what has happened to it, in order.
	Steps []step
	// Log is what it has logged.
	Log []client.LogLine
}

// step is one thing that has happened, or is to.
type step struct {
	At          time.Time
	Tone, Title string
	// Detail is one line, Until when an attempt ended.
	Detail, Worker string
	Until          time.Time
	// Stack is where an error happened.
	Stack string
}

// Running reports whether a worker has it.
func (t oneTask) Running() bool { return tone(t.State) == "busy" }

// Open reports whether it can be cancelled.
func (t oneTask) Open() bool { return !t.State.Final() }

// Repeatable reports whether it can be run again as it is.
func (t oneTask) Repeatable() bool { return t.State == client.Failure || t.State == client.Revoked }

// EditScope is what it takes to run it again with edits.
func (t oneTask) EditScope() access.Scope { return scopeOf(t.Task) }

// Settled reports whether it has ended and what it has logged is all there: a
// line may come 5 s late.
func (t oneTask) Settled() bool { return t.State.Final() && now().Sub(t.DateDone) > 10*time.Second }

// Input is the input as people write it: the fields, or all that was given.
func (t oneTask) Input() string {
	if args := string(t.Args); args != "" && args != "[]" && args != "null" {
		return "args   " + pretty(t.Args) + "\nkwargs " + pretty(t.Kwargs)
	}
	return pretty(t.Kwargs)
}

func taskPath(id string) string { return "/console/tasks/" + url.PathEscape(id) }

// task shows one task.
func (c *Console) task(ctx context.Context, r *http.Request) (*view, error) {
	id := r.PathValue("id")
	v := &view{name: "task", Title: "Task " + id, Section: "tasks", Self: taskPath(id)}
	t, err := c.client.Get(ctx, id)
	if err != nil {
		return v, err
	}
	one := newOneTask(t)
	one.Log, err = c.client.Log(ctx, id)
	v.Data = one
	return v, err
}

// taskLog is asked for again and again, until there is nothing to come. What is shown
// stays while it cannot be read.
func (c *Console) taskLog(w http.ResponseWriter, r *http.Request) {
	const stopPolling = 286 // says htmx
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	v, err := c.task(ctx, r)
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if v.Data.(oneTask).Settled() {
		v.status = stopPolling
	}
	c.render(w, v, "log")
}

func newOneTask(t *client.Task) oneTask {
	return oneTask{Task: t, Steps: steps(t)}
}

// steps tells the story of a task from its record.
func steps(t *client.Task) []step {
	out := []step{{At: t.DateCreated, Tone: "calm", Title: "Submitted", Detail: cmp.Or("to queue "+t.Queue, "")}}
	if !t.ETA.IsZero() && t.State == client.Pending {
		out = append(out, step{At: t.ETA, Tone: "calm", Title: "Due"})
	}
	for _, a := range t.Attempts {
		s := step{At: a.Started, Until: a.Ended, Tone: "warn", Title: attemptTitle(a.Run, a.Attempt) + " failed", Worker: a.Worker, Detail: a.Error}
		if a.State != client.Retrying {
			s.Tone = tone(a.State)
			s.Title = attemptTitle(a.Run, a.Attempt) + " " + word(a.State)
		}
		out = append(out, s)
	}
	if !t.DateStarted.IsZero() && t.State != client.Pending && t.State != client.Retrying {
		out = append(out, latest(t))
	}
	switch {
	case t.State == client.Revoked && t.DateStarted.IsZero():
		out = append(out, step{At: t.DateDone, Tone: "calm", Title: "Cancelled before it started", Detail: errorText(t.Error)})
	case t.State == client.Failure && t.DateStarted.IsZero():
		out = append(out, step{At: t.DateDone, Tone: "bad", Title: "Failed", Detail: errorText(t.Error)})
	case t.State == client.Retrying:
		out = append(out, step{At: t.NextAttempt, Tone: "warn", Title: "Next attempt"})
	}
	return out
}

// latest is the present or last attempt.
func latest(t *client.Task) step {
	s := step{
		At: t.DateStarted, Until: t.DateDone, Worker: t.Worker, Tone: tone(t.State),
		Title: attemptTitle(t.Run, t.Retries+1) + " " + word(t.State), Detail: errorText(t.Error),
	}
	if t.Error != nil {
		s.Stack = t.Error.Traceback
	}
	return s
}

func attemptTitle(run, attempt int) string {
	if run > 0 {
		return "Run " + grouped(run+1) + ", attempt " + grouped(attempt)
	}
	return "Attempt " + grouped(attempt)
}

func errorText(e *client.TaskError) string {
	if e == nil {
		return ""
	}
	return e.Type + ": " + e.Message
}

// steerTask does what the buttons say that need no form.
func (c *Console) steerTask(ctx context.Context, r *http.Request) (*view, error) {
	id, verb := r.PathValue("id"), r.PathValue("verb")
	var err error
	switch verb {
	case "cancel":
		_, err = c.client.Cancel(ctx, id)
	case "retry":
		err = c.client.Retry(ctx, id)
	default:
		return c.missing(ctx, r)
	}
	if err != nil {
		return c.refuse(ctx, r, c.task, err)
	}
	return back(taskPath(id), verb), nil
}

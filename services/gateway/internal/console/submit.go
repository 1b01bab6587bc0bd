package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/client"
)

// submission is a form for the input of a task.
type submission struct {
	Entry client.CatalogEntry
	// Action is where the form goes.
	Action string
	// Fields make the form; without them, or when Raw is set, the input is
	// written as JSON.
	Fields []field
	Raw    bool
	Text   string
	// Again is the task that is run again, and Letter its dead letter where
	// that is what was looked at.
	Again  *client.Task
	Letter *client.DeadLetterWhole
	// Options of a new task.
	Queue, Delay, Retries string
	// Unplaced is what is wrong with something that is no field.
	Unplaced []client.FieldError
}

// Plain reports whether the input is written as JSON.
func (s submission) Plain() bool { return s.Raw || len(s.Fields) == 0 }

// Scope is what it takes to send it.
func (s submission) Scope() access.Scope { return scopeOf(s.Again) }

// scopeOf is what it takes to run a task again with edits, or a new one: of what
// has failed there is a dead letter, and to send that again is to steer.
func scopeOf(again *client.Task) access.Scope {
	if again != nil && again.State == client.Failure {
		return access.Admin
	}
	return access.Submit
}

// choose lists what can be submitted; where there is only one task, its form is
// shown at once.
func (c *Console) choose(ctx context.Context, _ *http.Request) (*view, error) {
	v := &view{name: "choose", Title: "Submit", Section: "submit"}
	entries, err := c.client.Catalog(ctx)
	if len(entries) == 1 {
		v.redirect = submitPath(entries[0].Name)
	}
	v.Data = entries
	return v, err
}

func submitPath(name string) string { return "/console/submit/" + url.PathEscape(name) }

// entry finds a task in the catalog.
func (c *Console) entry(ctx context.Context, name string) (client.CatalogEntry, error) {
	entries, err := c.client.Catalog(ctx)
	if err != nil {
		return client.CatalogEntry{}, err
	}
	for _, e := range entries {
		if e.Name == name {
			return e, nil
		}
	}
	return client.CatalogEntry{Name: name}, &client.Problem{
		Status: http.StatusNotFound, Title: "Unknown task", Detail: "No worker has announced a task of this name; the catalog lists those that there are.",
	}
}

// form shows the empty form of a task.
func (c *Console) form(ctx context.Context, r *http.Request) (*view, error) {
	name := r.PathValue("name")
	v := &view{name: "submit", Title: "Submit " + name, Section: "submit"}
	entry, err := c.entry(ctx, name)
	if err != nil {
		return v, err
	}
	s := submission{Entry: entry, Action: submitPath(name), Fields: newFields(entry), Text: "{}"}
	s.Raw = r.URL.Query().Get("as") == "json"
	if s.Raw {
		text, _ := read(s.Fields, defaults(s.Fields))
		s.Text = pretty(text)
	}
	v.Data = s
	return v, nil
}

// defaults are what the fields hold.
func defaults(fields []field) url.Values {
	values := url.Values{}
	for _, f := range fields {
		values.Set("in."+f.Name, f.Value)
	}
	return values
}

// input reads what was entered. Where that is not possible the form is shown
// again, which err says.
func (s *submission) input(form url.Values) (json.RawMessage, error) {
	s.Raw = form.Get("as") == "json"
	s.Queue, s.Delay, s.Retries = form.Get("queue"), form.Get("delay"), form.Get("retries")
	if s.Plain() {
		s.Text = form.Get("text")
		if !json.Valid([]byte(s.Text)) {
			return nil, badForm("The input is not JSON.")
		}
		return json.RawMessage(s.Text), nil
	}
	input, good := read(s.Fields, form)
	if !good {
		return nil, badForm("See the marked fields.")
	}
	return input, nil
}

func badForm(detail string) error {
	return &client.Problem{Status: http.StatusUnprocessableEntity, Title: "Nothing was sent", Detail: detail}
}

// options are those of a new task.
func (s *submission) options() (client.Options, error) {
	o := client.Options{Queue: s.Queue}
	if s.Delay != "" {
		seconds, err := strconv.ParseFloat(s.Delay, 64)
		if err != nil {
			return o, badForm("The delay must be a number of seconds.")
		}
		o.Countdown = time.Duration(seconds * float64(time.Second))
	}
	if s.Retries != "" {
		n, err := strconv.Atoi(s.Retries)
		if err != nil {
			return o, badForm("The retries must be a whole number.")
		}
		o.MaxRetries = &n
	}
	return o, nil
}

// refuse shows the form again with what was wrong.
func (s *submission) refuse(v *view, err error) (*view, error) {
	if p, ok := errors.AsType[*client.Problem](err); ok && len(p.Errors) > 0 {
		fields := s.Fields
		if s.Plain() {
			fields = nil
		}
		s.Unplaced = blame(fields, p.Errors)
		err = &client.Problem{Status: p.Status, Type: p.Type, Title: "Nothing was sent", Detail: "The task does not take this input.", Errors: s.Unplaced}
	}
	v.Data = *s
	return v, err
}

// submit sends what was entered.
func (c *Console) submit(ctx context.Context, r *http.Request) (*view, error) {
	name := r.PathValue("name")
	v := &view{name: "submit", Title: "Submit " + name, Section: "submit"}
	if err := r.ParseForm(); err != nil {
		return v, badForm("The form is too large or was not read.")
	}
	entry, err := c.entry(ctx, name)
	if err != nil {
		return v, err
	}
	s := submission{Entry: entry, Action: submitPath(name), Fields: newFields(entry)}
	input, err := s.input(r.PostForm)
	if err != nil {
		return s.refuse(v, err)
	}
	o, err := s.options()
	if err != nil {
		return s.refuse(v, err)
	}
	t, err := c.client.Submit(ctx, name, input, o)
	if err != nil {
		return s.refuse(v, err)
	}
	return back(taskPath(t.TaskID), "submit"), nil
}

// again shows the form of a task with the input of one that was there before.
func (c *Console) again(ctx context.Context, r *http.Request) (*view, error) {
	v, s, err := c.repeat(ctx, r)
	if err == nil {
		s.prefill(r.URL.Query().Get("as") == "json")
		v.Data = *s
	}
	return v, err
}

func orEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return json.RawMessage("{}")
	}
	return raw
}

// repeat is the page on which a task is run again.
func (c *Console) repeat(ctx context.Context, r *http.Request) (*view, *submission, error) {
	id := r.PathValue("id")
	v := &view{name: "submit", Title: "Run again", Section: "tasks"}
	t, err := c.client.Get(ctx, id)
	if err != nil {
		return v, nil, err
	}
	s, err := c.repetition(ctx, t, taskPath(id)+"/again")
	return v, s, err
}

// repetition is the form of a task that was there before. One that the catalog
// does not know has no fields.
func (c *Console) repetition(ctx context.Context, t *client.Task, action string) (*submission, error) {
	entry, err := c.entry(ctx, t.Name)
	if p, ok := errors.AsType[*client.Problem](err); err != nil && (!ok || p.Status != http.StatusNotFound) {
		return nil, err
	}
	return &submission{Entry: entry, Action: action, Fields: newFields(entry), Again: t}, nil
}

// prefill puts the input of the task into its form.
func (s *submission) prefill(raw bool) {
	input := orEmpty(s.Again.Kwargs)
	s.Text = pretty(input)
	s.Raw = !fill(s.Fields, input) || raw
}

// runAgain sends a failed task again under its id, with the input that was
// entered, as long as its dead letter is there; any other becomes a new task.
func (c *Console) runAgain(ctx context.Context, r *http.Request) (*view, error) {
	v, s, err := c.repeat(ctx, r)
	if err != nil {
		return v, err
	}
	if err := r.ParseForm(); err != nil {
		return v, badForm("The form is too large or was not read.")
	}
	input, err := s.input(r.PostForm)
	if err != nil {
		return s.refuse(v, err)
	}
	if s.Again.State == client.Failure {
		err := c.client.RedriveOne(ctx, s.Again.Queue, s.Again.TaskID, input)
		if err == nil {
			return back(taskPath(s.Again.TaskID), "again"), nil
		}
		if !is(err, "dead-letter-not-found") {
			return s.refuse(v, err)
		}
	}
	o := client.Options{Queue: cmp.Or(s.Again.Queue, s.Queue)}
	t, err := c.client.SubmitEnvelope(ctx, client.Envelope{Task: s.Again.Name, Kwargs: input, Options: o})
	if err != nil {
		return s.refuse(v, err)
	}
	return back(taskPath(t.TaskID), "submit"), nil
}

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// envelope is the body of POST /v1/tasks: any task, known here or not.
type envelope struct {
	task    string
	args    json.RawMessage
	kwargs  json.RawMessage
	options submitOptions
}

// submitEnvelope is POST /v1/tasks.
func (a *API) submitEnvelope(ctx context.Context, c *call) (*reply, error) {
	wait, err := preferredWait(c.request.Header, a.opts.MaxWait)
	if err != nil {
		return nil, err
	}
	body, err := readBody(c, a.opts.MaxBody)
	if err != nil {
		return nil, err
	}
	var none struct{}
	s, err := a.prepareEnvelope(ctx, body, parseQuery(nil, c.request.URL.RawQuery, &none), wait)
	if err != nil {
		return nil, err
	}
	return a.submit(ctx, c, s)
}

// prepareEnvelope makes an envelope ready to be sent. The faults that were
// found before are reported together with its own.
func (a *API) prepareEnvelope(ctx context.Context, body json.RawMessage, errs []fieldError, wait time.Duration) (submission, error) {
	e, wrong := a.readEnvelope(body, submittedAt())
	if errs = append(errs, wrong...); len(errs) > 0 {
		return submission{}, invalid(slugInput, errs)
	}
	entry, err := a.known(ctx, e)
	if err != nil {
		return submission{}, err
	}
	t := &messages.Task{Name: e.task, Args: e.args, Kwargs: e.kwargs}
	s := a.submission(t, e.options, entry, wait)
	return s, maySubmit(ctx, t)
}

// readEnvelope takes the envelope apart and reports every fault. The body was
// checked to be JSON.
func (a *API) readEnvelope(body json.RawMessage, now time.Time) (envelope, []fieldError) {
	e := envelope{options: a.newOptions(now)}
	if body[0] != '{' {
		return e, []fieldError{atPointer("", "must be an object with task, args, kwargs and options")}
	}
	var task, options json.RawMessage
	var unknown []string
	for key, value := range members(body) {
		switch name := unquote(key); string(name) {
		case "task":
			task = value
		case "args":
			e.args = value
		case "kwargs":
			e.kwargs = value
		case "options":
			options = value
		default:
			unknown = append(unknown, string(name))
		}
	}
	var errs []fieldError
	add := func(pointer, rule string) {
		if rule != "" {
			errs = append(errs, atPointer(pointer, rule))
		}
	}
	add("/task", e.readTask(task))
	add("/args", shape(&e.args, '[', "must be an array"))
	add("/kwargs", shape(&e.kwargs, '{', "must be an object"))
	if len(options) > 0 && string(options) != "null" {
		errs = append(errs, parseOptions(a.options, options, "/options", &e.options)...)
	}
	errs = append(errs, e.options.conflicts(func(name, detail string) fieldError { return atPointer("/options/"+name, detail) })...)
	slices.Sort(unknown)
	for _, name := range unknown {
		add("/"+escapePointer(name), "is not a field of the envelope; there are task, args, kwargs and options")
	}
	return e, errs
}

func (e *envelope) readTask(raw json.RawMessage) string {
	switch {
	case len(raw) == 0:
		return "is required"
	case string(raw) == "null":
		return nameRule("", 255)
	case raw[0] != '"':
		return "must be a string"
	}
	e.task = string(unquote(raw))
	return nameRule(e.task, 255)
}

// shape wants nothing, null, or a value that begins with open.
func shape(raw *json.RawMessage, open byte, rule string) string {
	value := bytes.TrimSpace(*raw)
	if len(value) == 0 || string(value) == "null" {
		*raw = nil
		return ""
	}
	if value[0] != open {
		return rule
	}
	return ""
}

// known checks the arguments of a task that is in the catalog. One that is not
// needs a queue, and its arguments are its worker's business.
func (a *API) known(ctx context.Context, e envelope) (messages.CatalogEntry, error) {
	versions := a.catalog.peek(e.task)
	if versions == nil {
		if e.options.queue != "" {
			// Neither Redis nor a worker that started just now matters here.
			return messages.CatalogEntry{}, nil
		}
		var err error
		if versions, err = a.catalog.find(ctx, e.task); err != nil {
			return messages.CatalogEntry{}, queueNeeded(err)
		}
	}
	entry, errs := accept(versions, e.input)
	if len(errs) > 0 {
		return entry, invalid(slugInput, errs)
	}
	return entry, nil
}

// queueNeeded tells the way out for a task that is unknown.
func queueNeeded(err error) error {
	unknown, ok := errors.AsType[*problem](err)
	if !ok || unknown.kind != slugUnknownTask {
		return err
	}
	p := newProblem(slugQueueNeeded, unknown.Detail+"; to send it all the same, name the queue of its worker in options.queue")
	p.Nearest = unknown.Nearest
	p.Errors = []fieldError{atPointer("/options/queue", "is required for an unknown task")}
	return p
}

// input merges the arguments in the way the worker will.
func (e envelope) input(entry messages.CatalogEntry) (json.RawMessage, []fieldError) {
	if e.args == nil && e.kwargs != nil {
		return e.kwargs, nil
	}
	input, err := messages.Input(e.args, e.kwargs, entry.Params)
	if wrong, ok := errors.AsType[*messages.InvalidError](err); ok {
		return nil, []fieldError{atPointer("/"+strings.Replace(escapePointer(wrong.Field), ".", "/", 1), wrong.Rule)}
	}
	if err != nil {
		return nil, []fieldError{atPointer("", err.Error())}
	}
	return input, nil
}

// envelopeSchema documents the envelope; the options are those of the table.
func envelopeSchema(options []param[submitOptions]) *huma.Schema {
	known := map[string]*huma.Schema{}
	for _, o := range options {
		s := *o.schema
		s.Description = o.doc
		known[o.name] = &s
	}
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"task"}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{
			"task":    {Type: huma.TypeString, MinLength: new(1), MaxLength: new(255), Description: "Kind of the task, such as proj.add."},
			"args":    {Type: huma.TypeArray, Items: &huma.Schema{}, Description: "Positional arguments."},
			"kwargs":  {Type: huma.TypeObject, AdditionalProperties: true, Description: "Keyword arguments."},
			"options": {Type: huma.TypeObject, AdditionalProperties: false, Properties: known, Description: "As in the query of POST /v1/tasks/{name}."},
		},
	}
}

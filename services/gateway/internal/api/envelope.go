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
	return a.submission(t, e.options, entry, wait), nil
}

// readEnvelope takes the envelope apart and reports every fault.
func (a *API) readEnvelope(body json.RawMessage, now time.Time) (envelope, []fieldError) {
	e := envelope{options: submitOptions{now: now}}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(body, &values); err != nil || values == nil {
		return e, []fieldError{atPointer("", "must be an object with task, args, kwargs and options")}
	}
	var errs []fieldError
	add := func(pointer, rule string) {
		if rule != "" {
			errs = append(errs, atPointer(pointer, rule))
		}
	}
	add("/task", e.readTask(values["task"]))
	e.args, e.kwargs = values["args"], values["kwargs"]
	add("/args", shape(&e.args, '[', "must be an array"))
	add("/kwargs", shape(&e.kwargs, '{', "must be an object"))
	if raw := values["options"]; len(raw) > 0 && string(raw) != "null" {
		errs = append(errs, parseOptions(a.options, raw, "/options", &e.options)...)
	}
	errs = append(errs, e.options.conflicts(func(name, detail string) fieldError { return atPointer("/options/"+name, detail) })...)
	for _, name := range sortedKeys(values) {
		if !slices.Contains([]string{"task", "args", "kwargs", "options"}, name) {
			add("/"+escapePointer(name), "is not a field of the envelope; there are task, args, kwargs and options")
		}
	}
	return e, errs
}

func (e *envelope) readTask(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "is required"
	}
	if err := json.Unmarshal(raw, &e.task); err != nil {
		return "must be a string"
	}
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

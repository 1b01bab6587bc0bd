package messages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"unicode/utf8"
)

// defaultModule is the exc_module of an error that does not say where its type
// lives. It is no Python module, so Celery makes up a class of that name
// instead of looking for one.
const defaultModule = "lovage"

// celeryModule is where Celery's own exceptions live, and where its reader puts
// one that does not say.
const celeryModule = "celery.exceptions"

// unknownError is the exc_type of a failure without an exception.
const unknownError = "UnknownError"

// resultRecord is the record in Redis, property for property in Celery's
// order; ours come before task_id, which Celery writes last.
type resultRecord struct {
	Status    State           `json:"status"`
	Result    json.RawMessage `json:"result"`
	Traceback *string         `json:"traceback"`
	Children  json.RawMessage `json:"children"`
	DateDone  *string         `json:"date_done"`
	GroupID   string          `json:"group_id,omitempty"`
	ParentID  string          `json:"parent_id,omitempty"`
	*resultExtended
	RootID      string        `json:"root_id,omitempty"`
	Run         int           `json:"run,omitempty"`
	Attempts    []PastAttempt `json:"attempts,omitempty"`
	Progress    *ProgressInfo `json:"progress,omitempty"`
	DeadReason  Reason        `json:"dead_reason,omitempty"`
	DateCreated string        `json:"date_created,omitempty"`
	DateStarted string        `json:"date_started,omitempty"`
	NextAttempt string        `json:"next_attempt,omitempty"`
	ETA         string        `json:"eta,omitempty"`
	Expires     string        `json:"expires,omitempty"`
	Encoding    string        `json:"result_encoding,omitempty"`
	Size        int           `json:"result_size,omitempty"`
	TaskID      string        `json:"task_id"`
}

// resultExtended is what Celery adds with the setting result_extended, all of
// it or none.
type resultExtended struct {
	Name    *string         `json:"name"`
	Args    json.RawMessage `json:"args"`
	Kwargs  json.RawMessage `json:"kwargs"`
	Worker  *string         `json:"worker"`
	Retries int             `json:"retries"`
	Queue   *string         `json:"queue"`
}

// errorRecord is an exception as Celery writes it (celery/backends/base.py).
type errorRecord struct {
	Type    string          `json:"exc_type"`
	Message json.RawMessage `json:"exc_message"`
	Module  string          `json:"exc_module"`
}

// EncodeResult writes the record as Celery's Redis result backend does, with
// our fields beside its own. The error is an [*InvalidError] when TaskID or
// State is empty or a raw field is not JSON.
//
// The property "result" is the Error in the states RETRY, FAILURE and REVOKED
// (one is made up where it is missing, since Python cannot read such a record
// without), the Progress in state PROGRESS when it is set, and Value otherwise.
// A packed Value is a string there, and the record says how to read it.
// A STARTED without a Value names this process and the Worker. DateDone is
// written in final states only, and Celery's extended fields (name, args, kwargs,
// worker, retries, queue) all or none.
func EncodeResult(r *Result) ([]byte, error) {
	record, err := newResultRecord(r)
	if err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	out, err := marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	return out, nil
}

// marshal is json.Marshal without the escaping of <, > and &, which a result
// that is a page of HTML would pay for.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func newResultRecord(r *Result) (*resultRecord, error) {
	if err := validateResult(r); err != nil {
		return nil, err
	}
	result, err := resultValue(r)
	if err != nil {
		return nil, err
	}
	record := &resultRecord{
		Status: r.State, Result: result, Children: orDefault(r.Children, "[]"),
		GroupID: r.GroupID, ParentID: r.ParentID, RootID: r.RootID, Run: r.Run, Attempts: r.Attempts, Progress: r.Progress,
		DeadReason:  r.Reason,
		DateCreated: formatTime(r.DateCreated), DateStarted: formatTime(r.DateStarted),
		NextAttempt: formatTime(r.NextAttempt), ETA: formatTime(r.ETA), Expires: formatTime(r.Expires),
		TaskID: r.TaskID,
	}
	if r.packed() {
		record.Encoding, record.Size = packedEncoding, r.PackedSize
	}
	if r.Error != nil {
		record.Traceback = orNull(r.Error.Traceback)
	}
	if r.State.Final() {
		record.DateDone = orNull(formatTime(r.DateDone))
	}
	if r.Name != "" || r.Worker != "" || r.Queue != "" || r.Retries != 0 || len(r.Args)+len(r.Kwargs) > 0 {
		record.resultExtended = &resultExtended{
			Name: orNull(r.Name), Args: r.Args, Kwargs: r.Kwargs,
			Worker: orNull(r.Worker), Retries: r.Retries, Queue: orNull(r.Queue),
		}
	}
	return record, nil
}

// validateResult checks what would make the record unreadable.
func validateResult(r *Result) error {
	f := faults{}
	f.add("task_id", nameRule(r.TaskID))
	if r.State == "" {
		f.add("status", "must not be empty")
	}
	f.add("result", jsonRule(r.Value))
	f.add("args", jsonRule(r.Args))
	f.add("kwargs", jsonRule(r.Kwargs))
	f.add("children", listRule(r.Children))
	if r.Error != nil {
		f.add("exc_message", listRule(r.Error.Args))
	}
	if p := r.Progress; p != nil {
		f.add("progress.meta", jsonRule(p.Meta))
		if sum := p.Current + p.Total + p.Percent; math.IsNaN(sum) || math.IsInf(sum, 0) {
			f.add("progress", "must be finite numbers")
		}
	}
	f.time("date_created", r.DateCreated)
	f.time("date_started", r.DateStarted)
	f.time("date_done", r.DateDone)
	f.time("next_attempt", r.NextAttempt)
	f.time("eta", r.ETA)
	f.time("expires", r.Expires)
	return f.join()
}

// jsonRule says which rule raw breaks as any JSON value; empty is none.
func jsonRule(raw json.RawMessage) string {
	switch {
	case len(raw) == 0:
		return ""
	case !json.Valid(raw):
		return "must be JSON: " + checkJSON(raw).Error()
	case !utf8.Valid(raw):
		return "must be UTF-8"
	}
	return ""
}

func listRule(raw json.RawMessage) string {
	rule := jsonRule(raw)
	if rule == "" && len(raw) > 0 && kind(raw) != '[' {
		rule = "must be an array"
	}
	return rule
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// hasError reports whether the result of a task in this state is an exception.
func (s State) hasError() bool { return s == Retry || s == Failure || s == Revoked }

// resultValue returns the property "result".
func resultValue(r *Result) (json.RawMessage, error) {
	switch {
	case r.State.hasError():
		return marshal(newErrorRecord(r))
	case r.State == Progress && r.Progress != nil:
		return marshal(r.Progress)
	case r.packed():
		return marshal(string(r.Packed))
	case r.State == Started && len(r.Value) == 0:
		return marshal(struct {
			PID      int    `json:"pid"`
			Hostname string `json:"hostname"`
		}{os.Getpid(), r.Worker})
	}
	return orDefault(r.Value, "null"), nil
}

func newErrorRecord(r *Result) errorRecord {
	e := TaskError{Type: unknownError, Message: "no error was recorded"}
	switch {
	case r.Error != nil:
		e = *r.Error
	case r.State == Revoked:
		e = *RevokedError("revoked")
	}
	message := e.Args
	if len(message) == 0 {
		// No error: a string always marshals.
		message, _ = marshal([]string{e.Message})
	}
	return errorRecord{Type: or(e.Type, unknownError), Message: message, Module: or(e.Module, defaultModule)}
}

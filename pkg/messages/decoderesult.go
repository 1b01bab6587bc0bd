package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrNotResult is what the error of [DecodeResult] wraps: the value is not the
// result of a task. Celery keeps other things under similar keys, such as the
// members of a group.
var ErrNotResult = errors.New("not a task result")

// DecodeResult reads a record that a worker of ours or a Celery worker wrote.
// The state may be any, Celery lets tasks make up their own. Properties other
// than status and task_id may be missing or malformed: they are then empty.
// The error wraps [ErrNotResult]. The raw fields of the result are parts of
// raw, which must not be changed afterwards. A packed Value stays packed until
// [Result.Unpack].
//
// Python writes NaN, Infinity and -Infinity as bare words, which are not JSON.
// In a record they are read as null, as JavaScript writes them: the task has
// ended, and its record must stay readable.
func DecodeResult(raw []byte) (*Result, error) {
	err := checkJSON(raw)
	if err != nil && pythonLiteral(raw) != "" {
		raw = nullLiterals(raw)
		err = checkJSON(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("decode result: %w: %w", ErrNotResult, err)
	}
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("decode result: %w: not UTF-8", ErrNotResult)
	}
	if kind(raw) != '{' {
		return nil, fmt.Errorf("decode result: %w: not an object", ErrNotResult)
	}
	p := readProperties(raw)
	out := p.result()
	if out.State == "" {
		return nil, fmt.Errorf("decode result: %w: no status", ErrNotResult)
	}
	if rule := nameRule(out.TaskID); rule != "" {
		return nil, fmt.Errorf("decode result: %w: task_id %s", ErrNotResult, rule)
	}
	return out, nil
}

// properties are those of a record, still in JSON.
type properties struct {
	status, value, traceback, children, dateDone, groupID, parentID []byte
	name, args, kwargs, worker, retries, queue                      []byte
	rootID, run, progress, dateCreated, dateStarted, nextAttempt    []byte
	eta, expires, taskID, deadReason, encoding, size, attempts      []byte
}

func readProperties(raw []byte) *properties {
	var p properties
	for name, value := range members(raw) {
		if slot := p.slot(string(name[1 : len(name)-1])); slot != nil {
			*slot = value
		}
	}
	return &p
}

// slot returns where the property of this name goes, nil when it is not kept.
func (p *properties) slot(name string) *[]byte {
	switch name {
	case "status":
		return &p.status
	case "result":
		return &p.value
	case "traceback":
		return &p.traceback
	case "children":
		return &p.children
	case "date_done":
		return &p.dateDone
	case "group_id":
		return &p.groupID
	case "parent_id":
		return &p.parentID
	case "name":
		return &p.name
	case "args":
		return &p.args
	case "kwargs":
		return &p.kwargs
	case "worker":
		return &p.worker
	case "retries":
		return &p.retries
	case "queue":
		return &p.queue
	case "root_id":
		return &p.rootID
	case "run":
		return &p.run
	case "attempts":
		return &p.attempts
	case "progress":
		return &p.progress
	case "dead_reason":
		return &p.deadReason
	case "date_created":
		return &p.dateCreated
	case "date_started":
		return &p.dateStarted
	case "next_attempt":
		return &p.nextAttempt
	case "eta":
		return &p.eta
	case "expires":
		return &p.expires
	case "result_encoding":
		return &p.encoding
	case "result_size":
		return &p.size
	case "task_id":
		return &p.taskID
	}
	return nil
}

func (p *properties) result() *Result {
	out := &Result{
		TaskID: str(p.taskID), State: State(str(p.status)), Children: fullList(p.children),
		GroupID: str(p.groupID), ParentID: str(p.parentID), RootID: str(p.rootID), Run: whole(p.run), Attempts: decodeAttempts(p.attempts),
		DateCreated: lenientTime(str(p.dateCreated)), DateStarted: lenientTime(str(p.dateStarted)),
		NextAttempt: lenientTime(str(p.nextAttempt)), ETA: lenientTime(str(p.eta)),
		Expires: lenientTime(str(p.expires)),
		Name:    str(p.name), Args: notNull(p.args), Kwargs: notNull(p.kwargs),
		Worker: str(p.worker), Retries: whole(p.retries), Queue: str(p.queue),
		Progress: progress(p.progress), Reason: Reason(str(p.deadReason)),
	}
	if out.State.Final() {
		out.DateDone = lenientTime(str(p.dateDone))
	}
	switch {
	case out.State.hasError():
		out.Error = taskError(p.value, str(p.traceback))
	case out.State == Progress && out.Progress != nil:
	case out.State == Success && str(p.encoding) == packedEncoding && str(p.value) != "":
		out.Packed, out.PackedSize = []byte(str(p.value)), whole(p.size)
	default:
		out.Value = orDefault(p.value, "null")
	}
	return out
}

// str reads a string; anything else is "".
func str(raw []byte) string {
	if kind(raw) != '"' {
		return ""
	}
	return text(raw)
}

// whole reads a count; anything else is 0.
func whole(raw []byte) int {
	var n float64
	if len(raw) == 0 || json.Unmarshal(raw, &n) != nil {
		return 0
	}
	return int(max(0, min(n, 1<<31-1)))
}

func notNull(raw []byte) json.RawMessage {
	if kind(raw) == 'n' {
		return nil
	}
	return raw
}

// fullList returns a list that has elements, nil for everything else.
func fullList(raw []byte) json.RawMessage {
	if kind(raw) == '[' {
		for range elements(raw) {
			return raw
		}
	}
	return nil
}

func progress(raw []byte) *ProgressInfo {
	if kind(raw) != '{' {
		return nil
	}
	var p ProgressInfo
	if json.Unmarshal(raw, &p) != nil {
		return nil
	}
	return &p
}

// taskError reads an exception. A record that has something else in its place
// is read as an error of unknown type that says so.
func taskError(raw []byte, traceback string) *TaskError {
	e := &TaskError{Traceback: traceback}
	var message []byte
	if kind(raw) == '{' {
		for name, value := range members(raw) {
			switch string(name) {
			case `"exc_type"`:
				e.Type = str(value)
			case `"exc_message"`:
				message = value
			case `"exc_module"`:
				e.Module = str(value)
			}
		}
	}
	if e.Type == "" {
		e.Type, e.Module, message = unknownError, defaultModule, raw
	}
	e.Module = or(e.Module, celeryModule)
	e.setMessage(message)
	return e
}

// setMessage reads the constructor's arguments: a list, or in old records a
// string.
func (e *TaskError) setMessage(raw []byte) {
	switch kind(raw) {
	case 0, 'n':
	case '"':
		e.Message = text(raw)
	case '[':
		e.setArgs(raw)
	default:
		e.setArgs([]byte("[" + string(raw) + "]"))
	}
}

func (e *TaskError) setArgs(list []byte) {
	var parts []string
	for v := range elements(list) {
		if kind(v) == '"' {
			parts = append(parts, text(v))
			continue
		}
		parts = append(parts, compact(v))
		e.Args = list
	}
	e.Message = strings.Join(parts, ", ")
	if len(parts) != 1 {
		e.Args = list
	}
}

// compact returns JSON without the white space between its tokens.
func compact(raw []byte) string {
	var out bytes.Buffer
	// No error: it is JSON.
	_ = json.Compact(&out, raw)
	return out.String()
}

// nullLiterals returns a copy of raw in which the number words that only
// Python writes are null.
func nullLiterals(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] == '"' {
			end := stringEnd(raw, i)
			out = append(out, raw[i:end]...)
			i = end
			continue
		}
		if n := literalLen(raw[i:]); n > 0 {
			out = append(out, "null"...)
			i += n
			continue
		}
		out = append(out, raw[i])
		i++
	}
	return out
}

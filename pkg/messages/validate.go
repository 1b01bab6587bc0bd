package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// maxLimit bounds a time limit: 30 years, which a float64 of seconds holds to
// the microsecond.
const maxLimit = 1e9 * time.Second

// Validate checks that the task can travel: id and name of 1 to 255 bytes,
// args an array and kwargs an object nested no deeper than [MaxDepth], counts
// and limits in range, no header with a reserved name or of a type that cannot
// travel. It returns nil or all faults as joined [*InvalidError]s. Whether the
// task is known and its input fits is not its concern, nor is the queue's name
// (see [ValidQueue]).
func (t *Task) Validate() error {
	f := faults{}
	f.add("args", payloadRule(t.Args, '['))
	f.add("kwargs", payloadRule(t.Kwargs, '{'))
	f.add("embed", payloadRule(t.Embed, '{'))
	t.validateFields(&f)
	return f.join()
}

// validateFields checks everything but the payload, which [Decode] has
// checked already when it comes here.
func (t *Task) validateFields(f *faults) {
	f.add("id", nameRule(t.ID))
	f.add("name", nameRule(t.Name))
	if len(t.ReplyTo) > 255 {
		f.add("reply_to", "must not be longer than 255 bytes")
	}
	f.count("retries", t.Retries)
	f.count("run", t.Run)
	f.count("replaced_task_nesting", t.ReplacedTaskNesting)
	if t.MaxRetries != nil {
		f.count("max_retries", *t.MaxRetries)
	}
	if t.GroupIndex != nil {
		f.count("group_index", *t.GroupIndex)
	}
	f.limit("time_limit", t.TimeLimit)
	f.limit("soft_time_limit", t.SoftTimeLimit)
	f.limit("retention", t.Retention)
	f.time("eta", t.ETA)
	f.time("expires", t.Expires)
	f.time("created", t.Created)
	f.headers("headers.", t.Headers, reservedHeader)
	f.headers("stamps.", t.Stamps, func(string) bool { return false })
	if len(f.list) == 0 {
		f.size(t)
	}
}

// payloadRule says which rule raw breaks as an array or object; empty is none.
func payloadRule(raw json.RawMessage, want byte) string {
	if len(raw) == 0 {
		return ""
	}
	if err := checkJSON(raw); err != nil {
		return "must be JSON: " + err.Error()
	}
	return shapeRule(raw, want)
}

// shapeRule is payloadRule for what is known to be JSON.
func shapeRule(raw []byte, want byte) string {
	if kind(raw) != want {
		if want == '[' {
			return "must be an array"
		}
		return "must be an object"
	}
	if !utf8.Valid(raw) {
		return "must be UTF-8"
	}
	if _, depth := valueEnd(raw, space(raw, 0)); depth > MaxDepth {
		return fmt.Sprintf("must not nest deeper than %d", MaxDepth)
	}
	return ""
}

// nameRule is the rule of ids and names.
func nameRule(s string) string {
	switch {
	case s == "":
		return "must not be empty"
	case len(s) > 255:
		return "must not be longer than 255 bytes"
	case !utf8.ValidString(s):
		return "must be UTF-8"
	}
	return ""
}

// faults collects what is wrong with a task.
type faults struct{ list []error }

func (f *faults) add(field, rule string) {
	if rule != "" {
		f.list = append(f.list, &InvalidError{Field: field, Rule: rule})
	}
}

func (f *faults) join() error { return errors.Join(f.list...) }

func (f *faults) count(field string, n int) {
	if n < 0 || n > math.MaxInt32 {
		f.add(field, "must be between 0 and 2147483647")
	}
}

func (f *faults) limit(field string, d time.Duration) {
	if d < 0 || d > maxLimit {
		f.add(field, "must be between 0 and 1e9 seconds")
	}
}

func (f *faults) time(field string, t time.Time) {
	if !t.IsZero() && !validTime(t) {
		f.add(field, "must be in the years 1 to 9999")
	}
}

// headers reports every bad header, in order of their names.
func (f *faults) headers(prefix string, headers map[string]any, reserved func(string) bool) {
	if len(headers) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		rule := nameRule(name)
		if rule == "" && reserved(name) {
			rule = "is a reserved name"
		}
		if rule == "" {
			if _, err := wireValue(headers[name], 1); err != nil {
				rule = err.Error()
			}
		}
		f.add(prefix+name, rule)
	}
}

// size bounds what the headers take together.
func (f *faults) size(t *Task) {
	n := 2048
	for _, s := range []string{
		t.Shadow, t.Group, t.RootID, t.ParentID, t.Origin, t.Lang, t.ArgsRepr, t.KwargsRepr,
		t.ReplyTo, t.Queue, t.TraceParent, t.TraceState,
	} {
		n += len(s)
	}
	for _, s := range t.StampedHeaders {
		n += 5 + len(s)
	}
	for _, table := range []map[string]any{t.Headers, t.Stamps} {
		if len(table) > 0 {
			// No error: every value was checked one by one.
			v, _ := wireValue(table, 0)
			n += wireSize(v)
		}
	}
	if n > HeaderLimit {
		f.add("headers", fmt.Sprintf("must not take more than %d bytes together", HeaderLimit))
	}
}

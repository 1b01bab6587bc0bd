package messages

import (
	"fmt"
	"math"
	"time"
)

// headerReader reads typed values out of a header table and remembers the
// first that is not what the protocol says.
type headerReader struct {
	table map[string]any
	err   error
}

func (r *headerReader) fail(name, rule string) {
	if r.err == nil {
		r.err = &InvalidError{Field: name, Rule: rule}
	}
}

// str reads a string; null and absent are "".
func (r *headerReader) str(name string) string {
	switch v := r.table[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return string(v)
	}
	r.fail(name, "must be a string")
	return ""
}

// info reads a string that nothing depends on; anything else is "".
func (r *headerReader) info(name string) string {
	s, _ := r.table[name].(string)
	return s
}

// integer reads a whole number of any type; ok is false when it is absent or
// null.
func (r *headerReader) integer(name string, low int64) (n int, ok bool) {
	v := r.table[name]
	if v == nil {
		return 0, false
	}
	wide, whole := asInt(v)
	if !whole || wide < low || wide > math.MaxInt32 {
		r.fail(name, fmt.Sprintf("must be a whole number from %d to %d", low, math.MaxInt32))
		return 0, false
	}
	return int(wide), true
}

// count reads a number that is 0 when it is absent.
func (r *headerReader) count(name string) int {
	n, _ := r.integer(name, 0)
	return n
}

// optional reads a number that may be absent.
func (r *headerReader) optional(name string) *int {
	n, ok := r.integer(name, 0)
	if !ok {
		return nil
	}
	return &n
}

func (r *headerReader) boolean(name string) bool {
	v := r.table[name]
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	}
	n, ok := asFloat(v)
	if !ok {
		r.fail(name, "must be true or false")
	}
	return n != 0
}

// time reads a time; null, absent and "" are zero.
func (r *headerReader) time(name string) time.Time {
	if t, ok := r.table[name].(time.Time); ok {
		return t.UTC().Truncate(time.Microsecond)
	}
	s := r.str(name)
	if s == "" {
		return time.Time{}
	}
	t, err := parseTime(s)
	if err != nil {
		r.fail(name, err.Error())
	}
	return t
}

// limits reads the header timelimit, which is [hard, soft] in seconds (the
// documentation of Celery has it the other way round, its code has not).
func (r *headerReader) limits(name string) (hard, soft time.Duration) {
	list, ok := r.list(name)
	if !ok {
		return 0, 0
	}
	if len(list) != 2 {
		r.fail(name, "must be [hard, soft]")
		return 0, 0
	}
	return r.seconds(name, list[0]), r.seconds(name, list[1])
}

func (r *headerReader) seconds(name string, v any) time.Duration {
	if v == nil {
		return 0
	}
	f, ok := asFloat(v)
	if !ok || !(f >= 0 && f <= maxLimit.Seconds()) {
		r.fail(name, "must be seconds from 0 to 1e9")
		return 0
	}
	return time.Duration(math.Round(f*1e6)) * time.Microsecond
}

// list reads an array; ok is false when it is absent or null.
func (r *headerReader) list(name string) (list []any, ok bool) {
	v := r.table[name]
	if v == nil {
		return nil, false
	}
	if list, ok = v.([]any); ok {
		return list, true
	}
	if list, ok = r.wire(name, v).([]any); !ok {
		r.fail(name, "must be an array")
	}
	return list, ok
}

// strings reads an array of strings; an empty one is nil.
func (r *headerReader) strings(name string) []string {
	list, _ := r.list(name)
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			r.fail(name, "must be an array of strings")
			return nil
		}
		out[i] = s
	}
	return out
}

// jsonTable reads a table as JSON-like values; an empty one is nil.
func (r *headerReader) jsonTable(name string) map[string]any {
	v := r.table[name]
	if v == nil {
		return nil
	}
	table, ok := r.wire(name, v).(map[string]any)
	if !ok {
		r.fail(name, "must be a table")
	}
	if len(table) == 0 {
		return nil
	}
	return jsonLike(table).(map[string]any)
}

// wire returns v in the safe types.
func (r *headerReader) wire(name string, v any) any {
	out, err := wireValue(v, 1)
	if err != nil {
		r.fail(name, err.Error())
	}
	return out
}

// others returns the headers that are the sender's own, nil when there are
// none.
func (r *headerReader) others() map[string]any {
	var out map[string]any
	for name, v := range r.table {
		if reservedHeader(name) {
			continue
		}
		if out == nil {
			out = make(map[string]any)
		}
		out[name] = r.wire(name, v)
	}
	return out
}

// jsonLike turns the whole numbers in v into float64, in place.
func jsonLike(v any) any {
	switch v := v.(type) {
	case int32:
		return float64(v)
	case []any:
		for i := range v {
			v[i] = jsonLike(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = jsonLike(v[k])
		}
	}
	return v
}

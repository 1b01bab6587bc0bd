package messages

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
)

const (
	contentJSON = "application/json"
	contentUTF8 = "utf-8"
	// defaultEmbed is the third part of a body that has no callbacks, no
	// chain and no chord.
	defaultEmbed = `{"callbacks":null,"errbacks":null,"chain":null,"chord":null}`
)

// Encode writes the task as a message of Celery's protocol 2, with all of its
// headers and ours. It fails as [Task.Validate] does. The headers hold string,
// bool, int32, float64, nil, []any and map[string]any only; a whole number in
// Headers or Stamps that fits neither int32 nor float64 becomes text.
//
// What is empty gets a default: RootID the id, Lang "go", Origin [Origin],
// ArgsRepr and KwargsRepr a Python-like rendering of the payload. Headers of
// ours that say nothing are left out. The body is never compressed, and the
// time of expiry travels as a header only.
func Encode(t *Task) (*Message, error) {
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("encode task: %w", err)
	}
	return &Message{
		ContentType:     contentJSON,
		ContentEncoding: contentUTF8,
		CorrelationID:   t.ID,
		MessageID:       t.ID,
		ReplyTo:         t.ReplyTo,
		Priority:        t.Priority,
		Headers:         encodeHeaders(t),
		Body:            encodeBody(t),
	}, nil
}

func encodeBody(t *Task) []byte {
	const most = len("[[], {}, " + defaultEmbed + "]")
	body := make([]byte, 0, len(t.Args)+len(t.Kwargs)+len(t.Embed)+most)
	body = appendOr(append(body, '['), t.Args, "[]")
	body = appendOr(append(body, ", "...), t.Kwargs, "{}")
	body = appendOr(append(body, ", "...), t.Embed, defaultEmbed)
	return append(body, ']')
}

func appendOr(body []byte, raw json.RawMessage, empty string) []byte {
	if len(raw) == 0 {
		return append(body, empty...)
	}
	return append(body, raw...)
}

func orDefault(raw json.RawMessage, empty string) []byte {
	if len(raw) == 0 {
		return []byte(empty)
	}
	return raw
}

func encodeHeaders(t *Task) map[string]any {
	h := make(map[string]any, 25+len(t.Headers))
	for name, v := range t.Headers {
		// No error: Validate has tried.
		h[name], _ = wireValue(v, 1)
	}
	h["lang"] = or(t.Lang, "go")
	h["task"] = t.Name
	h["id"] = t.ID
	h["shadow"] = orNil(t.Shadow)
	h["eta"] = orNil(formatTime(t.ETA))
	h["expires"] = orNil(formatTime(t.Expires))
	h["group"] = orNil(t.Group)
	h["group_index"] = intOrNil(t.GroupIndex)
	h["retries"] = int32(t.Retries)
	h["timelimit"] = []any{seconds(t.TimeLimit), seconds(t.SoftTimeLimit)}
	h["root_id"] = or(t.RootID, t.ID)
	h["parent_id"] = orNil(t.ParentID)
	h["argsrepr"] = t.ArgsRepr
	if t.ArgsRepr == "" {
		h["argsrepr"] = or(pythonRepr(t.Args, true), "()")
	}
	h["kwargsrepr"] = t.KwargsRepr
	if t.KwargsRepr == "" {
		h["kwargsrepr"] = or(pythonRepr(t.Kwargs, false), "{}")
	}
	h["origin"] = t.Origin
	if t.Origin == "" {
		h["origin"] = Origin()
	}
	h["ignore_result"] = t.IgnoreResult
	h["replaced_task_nesting"] = int32(t.ReplacedTaskNesting)
	h["stamped_headers"] = stampedHeaders(t.StampedHeaders)
	h["stamps"] = stamps(t.Stamps)
	encodeOwnHeaders(t, h)
	return h
}

// encodeOwnHeaders adds the headers that Celery does not have; each is left
// out when it says nothing.
func encodeOwnHeaders(t *Task, h map[string]any) {
	if t.Run != 0 {
		h[headerRun] = int32(t.Run)
	}
	if t.MaxRetries != nil {
		h[headerMaxRetries] = int32(*t.MaxRetries)
	}
	if t.Retention != 0 {
		h[headerRetention] = seconds(t.Retention)
	}
	for _, own := range [...]struct{ name, value string }{
		{headerQueue, t.Queue},
		{headerCreated, formatTime(t.Created)},
		{headerAttempts, encodeAttempts(t.Attempts)},
		{"traceparent", t.TraceParent},
		{"tracestate", t.TraceState},
	} {
		if own.value != "" {
			h[own.name] = own.value
		}
	}
}

func or(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func intOrNil(n *int) any {
	if n == nil {
		return nil
	}
	return int32(*n)
}

// seconds returns a time limit as it travels: null for none, a whole number
// where it is one.
func seconds(d time.Duration) any {
	micros := d.Round(time.Microsecond).Microseconds()
	if micros == 0 {
		return nil
	}
	return number(float64(micros) / 1e6)
}

// number returns f as an int32 where it is one: JSON does not tell 1 from 1.0,
// Python does.
func number(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) <= math.MaxInt32 {
		return int32(f)
	}
	return f
}

func stampedHeaders(names []string) any {
	if len(names) == 0 {
		return nil
	}
	list := make([]any, len(names))
	for i, name := range names {
		list[i] = name
	}
	return list
}

func stamps(table map[string]any) map[string]any {
	if len(table) == 0 {
		return map[string]any{}
	}
	// No error: Validate has tried.
	v, _ := wireValue(table, 0)
	return wholeNumbers(v).(map[string]any)
}

// wholeNumbers turns the float64 in v that are whole into int32, in place.
func wholeNumbers(v any) any {
	switch v := v.(type) {
	case float64:
		return number(v)
	case []any:
		for i := range v {
			v[i] = wholeNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = wholeNumbers(v[k])
		}
	}
	return v
}

// Origin names this process the way Celery does. It asks the system each time:
// who encodes many tasks keeps it.
func Origin() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return "gen" + strconv.Itoa(os.Getpid()) + "@" + host
}

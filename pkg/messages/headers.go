package messages

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// HeaderLimit is how many bytes the headers of a task may take together. A
// header frame of AMQP is never split, so one over the frame size (128 KiB by
// default) would cost the connection; this leaves room for what is added when
// a task becomes a dead letter.
const HeaderLimit = 64 << 10

// The names of our own headers.
const (
	headerRun        = "lovage_run"
	headerMaxRetries = "lovage_max_retries"
	headerQueue      = "lovage_queue"
	headerCreated    = "lovage_created"
	headerRetention  = "lovage_retention"
	headerAttempts   = "lovage_attempts"
)

// brokerHeader reports whether a broker or a broker's extension acts on this
// header or writes it. None of them may be published again: RabbitMQ stops a
// message whose x-death runs in a circle, and CC and BCC route copies.
func brokerHeader(name string) bool {
	switch name {
	case "x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC":
		return true
	}
	return strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-")
}

// ownHeader reports whether the header is one of those that we add to the
// protocol's.
func ownHeader(name string) bool {
	return name == "traceparent" || name == "tracestate" || strings.HasPrefix(name, "lovage_")
}

// reservedHeader reports whether a sender's own header may not have this name.
func reservedHeader(name string) bool {
	switch name {
	// The protocol's own.
	case "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries",
		"timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result",
		"replaced_task_nesting", "stamped_headers", "stamps", "compression", "meth":
		return true
	// Celery copies every header into the task's request and would take these
	// for its own attributes and methods (celery/app/task.py, Context); one
	// named "headers" breaks its retry.
	case "headers", "args", "kwargs", "callbacks", "errbacks", "chain", "chord", "taskset", "utc",
		"correlation_id", "reply_to", "delivery_info", "properties", "hostname", "called_directly",
		"is_eager", "logfile", "loglevel", "children", "_children", "_protected",
		"update", "clear", "get", "as_execution_options":
		return true
	}
	return ownHeader(name) || brokerHeader(name)
}

// asInt reads a number of any type as an integer; ok is false when it is none
// or not whole.
func asInt(v any) (n int64, ok bool) {
	switch v := v.(type) {
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case int:
		return int64(v), true
	case int16:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case uint64:
		return int64(v), v <= math.MaxInt64
	case uint:
		return int64(v), v <= math.MaxInt64
	case float64:
		n := int64(v)
		return n, float64(n) == v && v < math.MaxInt64
	case float32:
		return asInt(float64(v))
	}
	return 0, false
}

// asFloat reads a number of any type.
func asFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case float32:
		return float64(v), true
	}
	n, ok := asInt(v)
	return float64(n), ok
}

// wireInt returns an integer as a type that both py-amqp and amqp091-go read
// rightly: int32, a float64 beyond that, and text where a float64 would round.
func wireInt(n int64) any {
	if n >= math.MinInt32 && n <= math.MaxInt32 {
		return int32(n)
	}
	if -1<<53 <= n && n <= 1<<53 {
		return float64(n)
	}
	return strconv.FormatInt(n, 10)
}

// wireValue returns v with nothing in it but string, bool, int32, float64,
// nil, []any and map[string]any: the types that mean the same to py-amqp and
// to amqp091-go (int16 breaks Python's connection, a negative int64 is read as
// a huge number).
func wireValue(v any, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("nests deeper than %d", MaxDepth)
	}
	switch v := v.(type) {
	case string, bool, int32, float64, nil:
		return v, nil
	case []byte:
		return string(v), nil
	case time.Time:
		return formatTime(v), nil
	case uint:
		return wireValue(uint64(v), depth)
	case uint64:
		if v > math.MaxInt64 {
			return strconv.FormatUint(v, 10), nil
		}
	case []any:
		return wireList(len(v), func(i int) any { return v[i] }, depth)
	case float32:
		return float64(v), nil
	}
	if n, ok := asInt(v); ok {
		return wireInt(n), nil
	}
	return wireReflect(reflect.ValueOf(v), depth)
}

// wireReflect handles types that are named elsewhere, such as the table type
// of amqp091-go, which this package does not import.
func wireReflect(v reflect.Value, depth int) (any, error) {
	switch {
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		out := make(map[string]any, v.Len())
		for iter := v.MapRange(); iter.Next(); {
			if iter.Key().Len() > 255 {
				return nil, errors.New("holds a name longer than 255 bytes")
			}
			value, err := wireValue(iter.Value().Interface(), depth+1)
			if err != nil {
				return nil, err
			}
			out[iter.Key().String()] = value
		}
		return out, nil
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		return wireList(v.Len(), func(i int) any { return v.Index(i).Interface() }, depth)
	case v.Kind() == reflect.String:
		return v.String(), nil
	}
	if f, ok := decimal(v); ok {
		return f, nil
	}
	return nil, fmt.Errorf("is of a type that cannot travel: %s", v.Type())
}

func wireList(n int, at func(int) any, depth int) (any, error) {
	out := make([]any, n)
	for i := range n {
		value, err := wireValue(at(i), depth+1)
		if err != nil {
			return nil, err
		}
		out[i] = value
	}
	return out, nil
}

// decimal reads AMQP's decimal, a struct of Scale and Value in amqp091-go.
func decimal(v reflect.Value) (float64, bool) {
	if v.Kind() != reflect.Struct {
		return 0, false
	}
	scale, value := v.FieldByName("Scale"), v.FieldByName("Value")
	if !scale.IsValid() || !value.IsValid() || !scale.CanUint() || !value.CanInt() {
		return 0, false
	}
	return float64(value.Int()) / math.Pow10(int(scale.Uint())), true
}

// wireSize estimates from above how many bytes a value of the safe types takes
// in an AMQP table.
func wireSize(v any) int {
	switch v := v.(type) {
	case string:
		return 5 + len(v)
	case []any:
		n := 5
		for _, e := range v {
			n += wireSize(e)
		}
		return n
	case map[string]any:
		n := 5
		for k, e := range v {
			n += 1 + len(k) + wireSize(e)
		}
		return n
	}
	return 9
}

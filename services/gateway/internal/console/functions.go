package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	template "github.com/DataDog/datadog-agent/pkg/template/html"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/client"
)

// functions are what the templates may call. They call no methods: see
// docs/decisions/0031-no-methods-by-name.md.
func functions() template.FuncMap {
	return template.FuncMap{
		"ago": ago, "stamp": stamp, "took": took, "number": number, "pretty": pretty, "short": short,
		"tone": tone, "word": word, "seg": url.PathEscape, "query": query, "plural": plural, "percent": percent,
		"upper": strings.ToUpper, "seconds": seconds, "bytes": size, "compact": compact,
		"list": func(items ...string) []string { return items }, "dict": dict, "minus": func(a, b int) int { return a - b },

		"final": func(state interface{ Final() bool }) bool { return state.Final() },
		"zero":  time.Time.IsZero,
		"utc":   func(t time.Time, layout string) string { return t.UTC().Format(layout) },
		"has":   (*access.Grant).Has,
		"may":   (*view).May,

		"input": oneTask.Input, "editScope": oneTask.EditScope, "open": oneTask.Open, "repeatable": oneTask.Repeatable, "running": oneTask.Running, "settled": oneTask.Settled,
		"after": taskQuery.After, "inState": taskQuery.InState, "narrow": taskQuery.Narrow,
		"busy": deadData.Busy, "done": operationData.Done, "plain": submission.Plain, "sendScope": submission.Scope,
	}
}

// ago says how long something is past or to come, coarsely.
func ago(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := now().Sub(t)
	switch {
	case d < -time.Second:
		return "in " + span(-d)
	case d < time.Second:
		return "just now"
	default:
		return span(d) + " ago"
	}
}

func span(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d >= 2*unit.size {
			return strconv.Itoa(int(d/unit.size)) + " " + unit.name
		}
	}
	return strconv.Itoa(int(d/time.Second)) + " s"
}

// stamp is the moment itself, in UTC.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.000 UTC")
}

// took is the time between two moments, empty when one of them is not known.
func took(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	return duration(to.Sub(from))
}

func duration(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// number writes a number with at most three digits that matter, and groups
// those of a whole one.
func number(v any) string {
	switch n := v.(type) {
	case *int:
		if n == nil {
			return "–"
		}
		return grouped(*n)
	case *float64:
		if n == nil {
			return "–"
		}
		return number(*n)
	case int:
		return grouped(n)
	case int64:
		return grouped(int(n))
	case float64:
		switch {
		case math.IsNaN(n):
			return "–"
		case math.Abs(n) >= 100 || n == math.Trunc(n):
			return grouped(int(math.Round(n)))
		case math.Abs(n) >= 10:
			return strconv.FormatFloat(n, 'f', 1, 64)
		default:
			return strconv.FormatFloat(n, 'f', 2, 64)
		}
	}
	return fmt.Sprint(v)
}

func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func percent(n float64) string {
	if math.IsNaN(n) {
		return "–"
	}
	return strconv.FormatFloat(math.Round(n*10)/10, 'f', -1, 64) + " %"
}

// seconds writes a duration that may not be known.
func seconds(n float64) string {
	if math.IsNaN(n) {
		return "–"
	}
	return duration(time.Duration(n * float64(time.Second)))
}

// size writes a number of bytes that may not be known.
func size(n int64) string {
	const mega = 1 << 20
	if n == 0 {
		return "–"
	}
	return number(float64(n)/mega) + " MB"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// mostShown is how much of a value a page shows; the API has all of it.
const mostShown = 64 << 10

// pretty indents JSON, or shows it as it is when it is long or none.
func pretty(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "null"
	}
	var b bytes.Buffer
	if len(raw) > mostShown {
		return string(raw[:mostShown]) + "\n… and " + grouped(len(raw)-mostShown) + " bytes more: the API has all of it"
	}
	if json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return b.String()
}

// compact writes the fields of a line, empty when there are none.
func compact(raw json.RawMessage) string {
	if string(raw) == "{}" {
		return ""
	}
	return string(raw)
}

// short cuts a text for a row.
func short(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// tone is the class of a state: how it looks.
func tone(state any) string {
	switch fmt.Sprint(state) {
	case string(client.Success), "done", "up", "running":
		return "good"
	case string(client.Failure), "failed", "down":
		return "bad"
	case string(client.Started), string(client.InWork), string(client.Received):
		return "busy"
	case string(client.Retrying), "paused", "draining", "blocked", "interrupted":
		return "warn"
	}
	return "calm"
}

// word is a state for people.
func word(state any) string {
	switch s := client.State(fmt.Sprint(state)); s {
	case client.Pending:
		return "waiting"
	case client.Received, client.Started, client.InWork:
		return "running"
	case client.Retrying:
		return "retrying"
	case client.Success:
		return "succeeded"
	case client.Failure:
		return "failed"
	case client.Revoked:
		return "cancelled"
	default:
		return strings.ToLower(string(s))
	}
}

// query writes pairs of names and values, without those that are empty.
func query(pairs ...any) template.URL {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := fmt.Sprint(pairs[i+1]); value != "" {
			q.Add(fmt.Sprint(pairs[i]), value)
		}
	}
	if len(q) == 0 {
		return ""
	}
	return template.URL("?" + q.Encode()) //nolint:gosec // it is encoded
}

func dict(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return m
}

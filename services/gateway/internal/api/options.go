package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// maxDelay is what the delay levels in the broker hold: 28 bits of seconds.
	maxDelay = (1<<28 - 1) * time.Second
	// maxTimeLimit bounds one attempt.
	maxTimeLimit = 30 * 24 * time.Hour
	maxRetries   = 10_000
	// maxRetention bounds how long a result is kept.
	maxRetention = 10 * 365 * 24 * time.Hour
)

// submitOptions are what a caller may say about a task beside its input.
type submitOptions struct {
	now           time.Time
	taskID        string
	countdown     *time.Duration
	eta           time.Time
	expires       time.Time
	queue         string
	maxRetries    *int
	timeLimit     time.Duration
	softTimeLimit time.Duration
	ignoreResult  bool
	retention     time.Duration
	callback      string
	checkCallback func(url string) (rule string)
}

// optionParams is the table of the options.
func optionParams() []param[submitOptions] {
	seconds := func(limit time.Duration) *huma.Schema {
		return &huma.Schema{Type: huma.TypeNumber, Minimum: new(0.0), Maximum: new(limit.Seconds())}
	}
	instant := &huma.Schema{Type: huma.TypeString, Format: "date-time"}
	type opt = submitOptions
	return []param[opt]{
		{
			name: "task_id", schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(255)},
			doc: "Id of the task, 1 to 255 bytes; a UUIDv7 is made when it is left out. Sending the same id again is a safe second try.",
			set: func(o *opt, s string) string { o.taskID = s; return nameRule(s, 255) },
		},
		{
			name: "countdown", schema: seconds(maxDelay), doc: "Start after this many seconds. Not together with eta.",
			set: func(o *opt, s string) (rule string) {
				o.countdown = new(time.Duration)
				return setSeconds(o.countdown, s, maxDelay)
			},
		},
		{
			name: "eta", schema: instant, doc: "Start at this time (RFC 3339). Not together with countdown.",
			set: func(o *opt, s string) string { return setInstant(&o.eta, s) },
		},
		{
			name: "expires", schema: &huma.Schema{OneOf: []*huma.Schema{seconds(maxDelay), instant}},
			doc: "Do not start after this time (RFC 3339), or after this many seconds from now.",
			set: setExpires,
		},
		{
			name: "queue", schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(100)},
			doc: "Work queue; the task's own when it is left out.",
			set: func(o *opt, s string) string { o.queue = s; return ruleOf(messages.ValidQueue(s)) },
		},
		{
			name: "max_retries", schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(0.0), Maximum: new(float64(maxRetries))},
			doc: "How often to retry after a failure; the task's own limit when it is left out.",
			set: func(o *opt, s string) string { o.maxRetries = new(int); return setInt(o.maxRetries, s, 0, maxRetries) },
		},
		{
			name: "time_limit", schema: seconds(maxTimeLimit), doc: "Hard limit of one attempt in seconds; 0 means the task's own.",
			set: func(o *opt, s string) string { return setSeconds(&o.timeLimit, s, maxTimeLimit) },
		},
		{
			name: "soft_time_limit", schema: seconds(maxTimeLimit), doc: "Soft limit of one attempt in seconds; 0 means the task's own.",
			set: func(o *opt, s string) string { return setSeconds(&o.softTimeLimit, s, maxTimeLimit) },
		},
		{
			name: "ignore_result", schema: &huma.Schema{Type: huma.TypeBoolean}, doc: "Keep no record and no result of the task.",
			set: func(o *opt, s string) string { return setBool(&o.ignoreResult, s) },
		},
		{
			name: "retention", schema: seconds(maxRetention), doc: "How long the result is kept in seconds; 0 means the task's own.",
			set: func(o *opt, s string) string { return setSeconds(&o.retention, s, maxRetention) },
		},
		{
			name: "callback_url", schema: &huma.Schema{Type: huma.TypeString, Format: "uri", MinLength: new(1), MaxLength: new(longestCallback)},
			doc: "Call this URL when the task has ended, by the rules of Standard Webhooks. Its host must be on LOVAGE_CALLBACK_ALLOW.",
			set: func(o *opt, s string) string { o.callback = s; return o.checkCallback(s) },
		},
	}
}

// conflicts returns what is wrong with options that are right one by one. An
// eta is filled in from the countdown.
func (o *submitOptions) conflicts(at func(name, detail string) fieldError) []fieldError {
	var errs []fieldError
	if o.countdown != nil && !o.eta.IsZero() {
		errs = append(errs, at("countdown", "cannot be given together with eta"))
	}
	if o.countdown != nil && *o.countdown > 0 {
		o.eta = o.now.Add(*o.countdown)
	}
	if o.eta.After(o.now.Add(maxDelay)) {
		errs = append(errs, at("eta", fmt.Sprintf("must be within %.0f seconds (8.5 years) from now", maxDelay.Seconds())))
	}
	if !o.expires.IsZero() {
		switch {
		case !o.expires.After(o.now):
			errs = append(errs, at("expires", "is in the past: the task would never start"))
		case !o.expires.After(o.eta):
			errs = append(errs, at("expires", "is not after the start: the task would never start"))
		}
	}
	if o.callback != "" && o.ignoreResult {
		errs = append(errs, at("callback_url", "cannot be given together with ignore_result: there would be no outcome to tell"))
	}
	if o.timeLimit > 0 && o.softTimeLimit > o.timeLimit {
		errs = append(errs, at("soft_time_limit", "must not be above time_limit"))
	}
	return errs
}

// delay is how long the broker holds the task back.
func (o *submitOptions) delay() time.Duration { return max(0, o.eta.Sub(o.now)) }

// nameRule is the rule of ids, names and whatever else is a piece of text.
func nameRule(s string, longest int) string {
	switch {
	case s == "":
		return "must not be empty"
	case len(s) > longest:
		return fmt.Sprintf("must not be longer than %d bytes", longest)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return "must be UTF-8 without control characters"
	}
	return ""
}

func ruleOf(err error) string {
	if err == nil {
		return ""
	}
	if fields := invalidFields(err, nil); len(fields) > 0 {
		return fields[0].Detail
	}
	return err.Error()
}

// plainNumber reports whether s is a decimal number: strconv also takes "0x1p-2",
// "Inf" and "1_000".
func plainNumber(s string) bool {
	return s != "" && strings.Trim(s, "+-.eE0123456789") == ""
}

func setSeconds(into *time.Duration, s string, limit time.Duration) string {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !plainNumber(s) || v < 0 || v > limit.Seconds() {
		return fmt.Sprintf("must be a number of seconds from 0 to %.0f", limit.Seconds())
	}
	*into = time.Duration(v * float64(time.Second))
	return ""
}

func setInt(into *int, s string, low, high int) string {
	v, err := strconv.Atoi(s)
	if err != nil || v < low || v > high {
		return fmt.Sprintf("must be a whole number from %d to %d", low, high)
	}
	*into = v
	return ""
}

func setBool(into *bool, s string) string {
	if s != "true" && s != "false" {
		return "must be true or false"
	}
	*into = s == "true"
	return ""
}

func setInstant(into *time.Time, s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return `must be a time like "2026-01-31T12:00:00Z" (RFC 3339); in a URL write the + of an offset as %2B`
	}
	*into = t.UTC().Truncate(time.Microsecond)
	return ""
}

func setExpires(o *submitOptions, s string) string {
	if !plainNumber(s) {
		return setInstant(&o.expires, s)
	}
	var in time.Duration
	if rule := setSeconds(&in, s, maxDelay); rule != "" {
		return rule + ", or a time"
	}
	o.expires = o.now.Add(in)
	return ""
}

package client

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	problemPrefix = "urn:lovage:problem:"
	problemType   = "application/problem+json"
	// longestProblem is how much of an answer that is none of ours is read.
	longestProblem = 64 << 10
)

// Problem is an answer that says what went wrong, as RFC 9457 asks. The slugs
// and what to do about each are in docs/api.md.
type Problem struct {
	// Type is the stable name of the kind of problem, see [Problem.Slug]. It is
	// "about:blank" when the answer did not come from a gateway but from
	// something in between.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what went wrong this time, and the way out.
	Detail string `json:"detail,omitempty"`
	// Retryable says whether the same call may succeed later.
	Retryable bool `json:"retryable"`
	// Errors are all fields at fault.
	Errors []FieldError `json:"errors,omitempty"`
	// TaskID and OperationID are what this is about, where there is one.
	TaskID      string `json:"task_id,omitempty"`
	OperationID string `json:"operation_id,omitempty"`
	// Nearest are known names that look like the unknown one.
	Nearest []string `json:"nearest,omitempty"`
	// ViolatedPolicies are those of the RateLimit fields that refused it.
	ViolatedPolicies []string `json:"violated-policies,omitempty"`

	// RetryAfter is when to try again, 0 when the gateway did not say.
	RetryAfter time.Duration `json:"-"`
	// RequestID is what the gateway's log has this request under.
	RequestID string `json:"-"`
}

// FieldError says what is wrong with one field. One of Pointer, Parameter and
// Header names it.
type FieldError struct {
	// Pointer is a JSON pointer into the body, empty for the body itself.
	Pointer   *string `json:"pointer,omitempty"`
	Parameter string  `json:"parameter,omitempty"`
	Header    string  `json:"header,omitempty"`
	// Detail is the rule that is broken.
	Detail string `json:"detail"`
}

// Slug is the short name of the kind of problem, such as "unknown-task", and
// empty for an answer that no gateway has written.
func (p *Problem) Slug() string {
	slug, ok := strings.CutPrefix(p.Type, problemPrefix)
	if !ok {
		return ""
	}
	return slug
}

func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(p.Status) + " " + cmp.Or(p.Slug(), p.Title))
	if p.Detail != "" && len(p.Errors) == 0 {
		b.WriteString(": " + p.Detail)
	}
	separator := ": "
	for _, e := range p.Errors {
		b.WriteString(separator + e.String())
		separator = "; "
	}
	return b.String()
}

// String names the field and the rule.
func (e FieldError) String() string {
	field := cmp.Or(e.Parameter, e.Header)
	if e.Pointer != nil {
		field = cmp.Or(*e.Pointer, "the body")
	}
	return strings.TrimSpace(field + " " + e.Detail)
}

// readProblem makes a problem of an answer, also of one of a proxy in between.
func readProblem(res *http.Response) *Problem {
	body, _ := io.ReadAll(io.LimitReader(res.Body, longestProblem)) // what has come is worth an answer
	p := new(Problem)
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind != problemType || json.Unmarshal(body, p) != nil {
		p = &Problem{
			Type: "about:blank", Title: http.StatusText(res.StatusCode), Detail: string(firstLine(body)),
			Retryable: passes(res.StatusCode),
		}
	}
	p.Status = res.StatusCode
	p.RequestID = res.Header.Get("X-Request-Id")
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n > 0 {
		p.RetryAfter = time.Duration(n) * time.Second
	}
	return p
}

// passes reports whether a status of a proxy is one that may pass.
func passes(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return line[:min(len(line), 200)]
}

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// problemPrefix starts the type of every problem; the slug follows.
const problemPrefix = "urn:lovage:problem:"

const problemType = "application/problem+json"

// problem is an RFC 9457 answer, and the error that handlers return.
type problem struct {
	Type      string       `json:"type" doc:"Stable name of the kind of problem: urn:lovage:problem:<slug>." example:"urn:lovage:problem:invalid-input"`
	Title     string       `json:"title" doc:"What the kind of problem is called."`
	Status    int          `json:"status" doc:"The HTTP status."`
	Detail    string       `json:"detail,omitempty" doc:"What went wrong this time, and the way out."`
	Retryable bool         `json:"retryable" doc:"Whether the same request may succeed later."`
	TaskID    string       `json:"task_id,omitempty" doc:"The task that this is about. After publish-unconfirmed, submit again with this task_id."`
	Errors    []fieldError `json:"errors,omitempty" nullable:"false" doc:"Every field at fault."`
	Nearest   []string     `json:"nearest,omitempty" nullable:"false" doc:"Known names that look like the unknown one."`

	ViolatedPolicies []string `json:"violated-policies,omitempty" nullable:"false" doc:"After rate-limited: which policy of the RateLimit fields."`

	OperationID string `json:"operation_id,omitempty" doc:"The operation that this is about."`

	kind  slug
	cause error
	after time.Duration
	allow string
}

// fieldError says what is wrong with one field.
type fieldError struct {
	Pointer   *string `json:"pointer,omitempty" doc:"JSON pointer into the body; empty for the body itself."`
	Parameter string  `json:"parameter,omitempty" doc:"Name of the query parameter."`
	Header    string  `json:"header,omitempty" doc:"Name of the request header."`
	Detail    string  `json:"detail" doc:"Which rule is broken."`
}

func atPointer(pointer, detail string) fieldError {
	return fieldError{Pointer: &pointer, Detail: detail}
}

func atParameter(name, detail string) fieldError { return fieldError{Parameter: name, Detail: detail} }

func (p *problem) Error() string {
	if p.cause != nil {
		return string(p.kind) + ": " + p.cause.Error()
	}
	return string(p.kind) + ": " + p.Detail
}

func (p *problem) Unwrap() error { return p.cause }

// slug names a kind of problem.
type slug string

// The kinds of problems that have no error of package messages behind them.
const (
	slugMisdirected    slug = "host-not-allowed"
	slugCrossOrigin    slug = "cross-origin"
	slugUnauthorized   slug = "unauthorized"
	slugForbidden      slug = "forbidden"
	slugRate           slug = "rate-limited"
	slugLongURL        slug = "url-too-long"
	slugLocked         slug = "locked-out"
	slugNoAccess       slug = "credentials-unavailable"
	slugRepeatedHeader slug = "repeated-header"
	slugNoKeys         slug = "idempotency-key-unsupported"
	slugNotFound       slug = "not-found"
	slugMethod         slug = "method-not-allowed"
	slugMediaType      slug = "unsupported-media-type"
	slugTooLarge       slug = "body-too-large"
	slugSlowBody       slug = "body-timeout"
	slugUnreadable     slug = "unreadable-body"
	slugEmptyBody      slug = "empty-body"
	slugMalformed      slug = "malformed-json"
	slugTooDeep        slug = "too-deep"
	slugDuplicateKey   slug = "duplicate-key"
	slugNumberRange    slug = "number-out-of-range"
	slugInput          slug = "invalid-input"
	slugParameters     slug = "invalid-parameters"
	slugQueueNeeded    slug = "queue-needed"
	slugUnknownTask    slug = "unknown-task"
	slugTaskNotFound   slug = "task-not-found"
	slugNotRecorded    slug = "task-not-recorded"
	slugExpired        slug = "task-expired"
	slugEnded          slug = "task-ended"
	slugForeign        slug = "foreign-task"
	slugNotEnded       slug = "task-not-ended"
	slugNoDeadLetter   slug = "dead-letter-not-found"
	slugUndecodable    slug = "undecodable"
	slugNoOperation    slug = "operation-not-found"
	slugOperationOpen  slug = "operation-running"
	slugOperationEnded slug = "operation-ended"
	slugNoWorker       slug = "worker-not-found"
	slugWorkerTimeout  slug = "worker-timeout"
	slugWorkerRefused  slug = "worker-refused"
	slugNoCatalog      slug = "catalog-unavailable"
	slugBadKey         slug = "invalid-idempotency-key"
	slugKeyReused      slug = "idempotency-key-reused"
	slugKeyInFlight    slug = "idempotency-key-in-flight"
	slugNoKeyStore     slug = "idempotency-store-unavailable"
	slugUnconfirmed    slug = "publish-unconfirmed"
	slugQueueFull      slug = "queue-full"
	slugDraining       slug = "queue-draining"
	slugOverloaded     slug = "overloaded"
	slugTooManyStreams slug = "too-many-streams"
	slugNoCallback     slug = "callback-not-found"
	slugStopping       slug = "stopping"
	slugInternal       slug = "internal"
)

// problemKind is what all problems of one slug have in common.
type problemKind struct {
	slug      slug
	status    int
	title     string
	retryable bool
	after     time.Duration
	// err is the error that leads here, nil when a handler names the slug.
	err error
}

// kinds is the one table of everything that can go wrong.
func kinds() [60]problemKind {
	const soon, later = time.Second, 5 * time.Second
	return [60]problemKind{
		{slugMisdirected, http.StatusMisdirectedRequest, "This server does not answer to that host name", false, 0, nil},
		{slugCrossOrigin, http.StatusForbidden, "Request from another origin", false, 0, nil},
		{slugUnauthorized, http.StatusUnauthorized, "No valid credentials", false, 0, nil},
		{slugForbidden, http.StatusForbidden, "Not allowed with these credentials", false, 0, nil},
		{slugLocked, http.StatusTooManyRequests, "Too many wrong credentials", true, soon, nil},
		{slugRate, http.StatusTooManyRequests, "Too many requests", true, soon, nil},
		{slugLongURL, http.StatusRequestURITooLong, "URL too long", false, 0, nil},
		{slugNoAccess, http.StatusServiceUnavailable, "Credentials cannot be checked", true, soon, nil},
		{slugRepeatedHeader, http.StatusBadRequest, "Header given more than once", false, 0, nil},
		{slugNoKeys, http.StatusBadRequest, "Idempotency-Key is not supported", false, 0, nil},
		{slugBadKey, http.StatusBadRequest, "Malformed Idempotency-Key", false, 0, nil},
		{slugKeyReused, http.StatusUnprocessableEntity, "Idempotency-Key used before with another payload", false, 0, nil},
		{slugKeyInFlight, http.StatusConflict, "A submission with this Idempotency-Key is under way", true, soon, nil},
		{slugNoKeyStore, http.StatusServiceUnavailable, "Idempotency-Key cannot be looked up", true, soon, nil},
		{slugNotFound, http.StatusNotFound, "No such resource", false, 0, nil},
		{slugMethod, http.StatusMethodNotAllowed, "Method not allowed", false, 0, nil},
		{slugMediaType, http.StatusUnsupportedMediaType, "Unsupported media type", false, 0, nil},
		{slugTooLarge, http.StatusRequestEntityTooLarge, "Body too large", false, 0, nil},
		{slugSlowBody, http.StatusRequestTimeout, "Body came too slowly", true, 0, nil},
		{slugUnreadable, http.StatusBadRequest, "Body could not be read", true, 0, nil},
		{slugEmptyBody, http.StatusBadRequest, "Empty body", false, 0, nil},
		{slugMalformed, http.StatusBadRequest, "Malformed JSON", false, 0, nil},
		{slugTooDeep, http.StatusBadRequest, "JSON nested too deeply", false, 0, nil},
		{slugDuplicateKey, http.StatusBadRequest, "Duplicate key in JSON", false, 0, nil},
		{slugNumberRange, http.StatusBadRequest, "Number out of range", false, 0, nil},
		{slugInput, http.StatusUnprocessableEntity, "Invalid input", false, 0, nil},
		{slugParameters, http.StatusUnprocessableEntity, "Invalid parameters", false, 0, nil},
		{slugQueueNeeded, http.StatusUnprocessableEntity, "A queue must be named for an unknown task", false, 0, nil},
		{slugUnknownTask, http.StatusNotFound, "Unknown task", false, 0, nil},
		{slugTaskNotFound, http.StatusNotFound, "Task not found", false, 0, messages.ErrNotFound},
		{slugNotRecorded, http.StatusNotFound, "Task not recorded", true, soon, nil},
		{slugExpired, http.StatusGone, "Task expired", false, 0, nil},
		{slugEnded, http.StatusConflict, "Task has ended", false, 0, nil},
		{slugNotEnded, http.StatusConflict, "Task has not failed", false, 0, nil},
		{slugForeign, http.StatusConflict, "Task belongs to Celery", false, 0, nil},
		{slugNoDeadLetter, http.StatusNotFound, "Dead letter not found", false, 0, nil},
		{slugUndecodable, http.StatusConflict, "Dead letter cannot be read", false, 0, nil},
		{"dead-letters-busy", http.StatusConflict, "Dead letters are being worked with", true, soon, ErrPassing},
		{"pass-timeout", http.StatusGatewayTimeout, "Too many dead letters for one look", true, soon, errPassTooLong},
		{slugNoOperation, http.StatusNotFound, "Operation not found", false, 0, nil},
		{slugOperationOpen, http.StatusConflict, "An operation on this queue has not ended", true, later, nil},
		{slugOperationEnded, http.StatusConflict, "Operation has ended", false, 0, nil},
		{slugNoWorker, http.StatusNotFound, "Worker not found", false, 0, nil},
		{slugWorkerTimeout, http.StatusGatewayTimeout, "Worker has not answered", true, soon, nil},
		{slugWorkerRefused, http.StatusConflict, "Worker cannot do that", false, 0, nil},
		{slugNoCatalog, http.StatusServiceUnavailable, "Catalog not loaded yet", true, soon, nil},
		{"store-unavailable", http.StatusServiceUnavailable, "Result store unavailable", true, soon, messages.ErrStoreUnavailable},
		{slugUnconfirmed, http.StatusGatewayTimeout, "Publish not confirmed", true, soon, messages.ErrUnconfirmed},
		{"broker-unavailable", http.StatusServiceUnavailable, "Broker unavailable", true, soon, messages.ErrBrokerUnavailable},
		{"not-sent", http.StatusServiceUnavailable, "Not sent in time", true, soon, messages.ErrNotSent},
		{"queue-missing", http.StatusServiceUnavailable, "Queue does not exist", true, later, messages.ErrQueueMissing},
		{"queue-unavailable", http.StatusServiceUnavailable, "Queue unavailable", true, later, messages.ErrQueueUnavailable},
		{slugDraining, http.StatusConflict, "Queue is being drained", true, time.Minute, nil},
		{slugQueueFull, http.StatusTooManyRequests, "Queue is full", true, later, messages.ErrQueueFull},
		{"refused", http.StatusServiceUnavailable, "Broker refused the task", true, later, messages.ErrRefused},
		{slugOverloaded, http.StatusServiceUnavailable, "Too many submissions in flight", true, soon, messages.ErrOverloaded},
		{slugTooManyStreams, http.StatusTooManyRequests, "Too many event streams", true, later, nil},
		{slugNoCallback, http.StatusNotFound, "Callback not found", false, 0, nil},
		{slugStopping, http.StatusServiceUnavailable, "Gateway is stopping", true, soon, nil},
		{slugInternal, http.StatusInternalServerError, "Internal error", false, 0, nil},
	}
}

// newProblem makes a problem of a kind that is in the table.
func newProblem(s slug, detail string) *problem {
	for _, k := range kinds() {
		if k.slug == s {
			return k.problem(detail)
		}
	}
	return newProblem(slugInternal, "")
}

func (k problemKind) problem(detail string) *problem {
	return &problem{
		Type: problemPrefix + string(k.slug), Title: k.title, Status: k.status, Detail: detail,
		Retryable: k.retryable, kind: k.slug, after: k.after,
	}
}

// invalid makes a problem of fields at fault.
func invalid(s slug, errs []fieldError) *problem {
	p := newProblem(s, "see errors for every field at fault")
	p.Errors = errs
	return p
}

// problemOf turns any error into its answer. What is not in the table is
// internal, and its text stays inside.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	for _, k := range kinds() {
		if k.err != nil && errors.Is(err, k.err) {
			p := k.problem(k.err.Error())
			if missing, ok := errors.AsType[*messages.MissingError](err); ok {
				p.Detail = missing.Error()
			}
			p.cause = err
			return p
		}
	}
	if fields := invalidFields(err, nil); len(fields) > 0 {
		return invalid(slugParameters, fields)
	}
	p := newProblem(slugInternal, "the log of the server says more under this X-Request-Id")
	p.cause = err
	return p
}

// invalidFields collects every [messages.InvalidError] in a tree of errors.
func invalidFields(err error, into []fieldError) []fieldError {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself, to find all of them
	case *messages.InvalidError:
		return append(into, fieldError{Parameter: e.Field, Detail: e.Rule})
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			into = invalidFields(one, into)
		}
	case interface{ Unwrap() error }:
		return invalidFields(e.Unwrap(), into)
	}
	return into
}

// header sets what belongs to the problem beside its body.
func (p *problem) header(h http.Header) {
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	if p.after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(p.after.Seconds())))
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.kind == slugTooLarge || p.kind == slugSlowBody || p.kind == slugUnreadable {
		// The rest of the body is not worth reading.
		h.Set("Connection", "close")
	}
}

func (p *problem) body() []byte {
	b, err := encodeJSON(p)
	if err != nil {
		return []byte(`{"type":"` + problemPrefix + `internal","title":"Internal error","status":500,"retryable":false}`)
	}
	return b
}

// write answers with the problem outside of a route.
func (p *problem) write(w http.ResponseWriter, r *http.Request) {
	exchangeOf(r.Context()).fail(p)
	p.header(w.Header())
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.body())
}

// encodeJSON writes v without escaping what only HTML would mind.
func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// DefaultMaxRetries is how often a task is retried when [WithMaxRetries] does
// not say otherwise.
const DefaultMaxRetries = 3

// maxNameLength leaves room for what the broker and Redis put around a name.
const maxNameLength = 200

// HandleOption changes one thing about a task at its registration.
type HandleOption func(*handler) error

// handler is one registered task. It is not changed after its registration.
type handler struct {
	name        string
	queue       string
	description string
	maxRetries  int
	backoff     Backoff
	retryOn     []ErrorKind
	giveUpOn    []ErrorKind
	hard, soft  time.Duration
	retention   time.Duration
	indexed     []string
	// compressAbove is [Options].CompressAbove or the task's own.
	compressAbove int
	input         *inputSchema
	output        json.RawMessage
	// call decodes the input, runs the user's function and encodes what it
	// returned, within the worker's middleware. All of it may panic: users
	// write decoders and encoders too.
	call Func
}

// Handle registers fn as the task of the given name. In is a struct, a pointer
// to one, or struct{} for a task without input; the JSON Schema that the
// gateway validates with is derived from it, see the package documentation.
//
// Handle panics, saying what is wrong, when the name is taken or not made of
// letters, digits and "_.:-", when an option is invalid, when In is no struct,
// or when a type or a struct tag has no JSON Schema: these are mistakes in the
// program, found at its first start.
func Handle[In, Out any](w *Worker, name string, fn func(ctx context.Context, in In) (Out, error), opts ...HandleOption) {
	h, err := newHandler(w, name, fn, opts)
	if err == nil {
		err = w.add(h)
	}
	if err != nil {
		panic(fmt.Sprintf("worker: register task %q: %v", name, err))
	}
}

func newHandler[In, Out any](w *Worker, name string, fn func(context.Context, In) (Out, error), opts []HandleOption) (*handler, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if fn == nil {
		return nil, errors.New("the function is nil")
	}
	input, err := newInputSchema(reflect.TypeFor[In]())
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	output, err := outputSchema(reflect.TypeFor[Out]())
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	h := &handler{
		name: name, queue: w.opts.Queue, maxRetries: DefaultMaxRetries,
		compressAbove: w.opts.CompressAbove, input: input, output: output,
	}
	h.call = chain(w.opts.Middleware, func(ctx context.Context, t *messages.Task) (json.RawMessage, error) {
		value, err := call(ctx, t, input, fn)
		if err == nil {
			err = checkResult(value, w.opts.MaxResult)
		}
		if err != nil {
			return nil, err
		}
		return value, nil
	})
	return h, h.apply(opts)
}

// call is one attempt from raw input to raw result.
func call[In, Out any](ctx context.Context, t *messages.Task, schema *inputSchema, fn func(context.Context, In) (Out, error)) (json.RawMessage, error) {
	var in In
	if err := schema.decode(t, &in); err != nil {
		return nil, err
	}
	out, err := fn(ctx, in)
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(out)
	if err != nil {
		return nil, Permanent(fmt.Errorf("encode result: %w", err))
	}
	return value, nil
}

// checkResult refuses what the store would: an outcome that can never be
// stored would come back for ever.
func checkResult(value []byte, limit int) error {
	if len(value) > limit {
		return Permanent(&ResultTooLargeError{Size: len(value), Limit: limit})
	}
	if !utf8.Valid(value) {
		return Permanent(errors.New("encode result: it is not UTF-8"))
	}
	return nil
}

func (h *handler) apply(opts []HandleOption) error {
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(h))
	}
	errs = append(errs,
		checkQueue("queue", h.queue),
		h.backoff.Validate(),
		h.checkIndexed(),
		check(h.hard == 0 || h.soft < h.hard, "the soft time limit must be below the time limit"),
	)
	return errors.Join(errs...)
}

func (h *handler) entry() messages.CatalogEntry {
	return messages.CatalogEntry{
		Name: h.name, Queue: h.queue, Description: h.description,
		Params: h.input.params, Input: h.input.raw, Output: h.output,
		MaxRetries: h.maxRetries, TimeLimit: h.hard.Seconds(), SoftTimeLimit: h.soft.Seconds(),
		Indexed: h.indexed,
	}
}

func (h *handler) checkIndexed() error {
	errs := []error{check(len(h.indexed) <= messages.MaxIndexed, fmt.Sprintf("at most %d fields of the input can be indexed", messages.MaxIndexed))}
	for i, field := range h.indexed {
		errs = append(errs,
			check(slices.Contains(h.input.params, field), fmt.Sprintf("the input has no field %q to be indexed", field)),
			check(!slices.Contains(h.indexed[:i], field), fmt.Sprintf("field %q is indexed twice", field)))
	}
	return errors.Join(errs...)
}

// WithQueue puts the task on a queue of its own instead of [Options].Queue.
func WithQueue(queue string) HandleOption {
	return func(h *handler) error {
		h.queue = queue
		return nil
	}
}

// WithDescription says what the task does, for the catalog and the API's
// documentation.
func WithDescription(text string) HandleOption {
	return func(h *handler) error {
		h.description = text
		return nil
	}
}

// WithMaxRetries sets how often the task is retried after its first attempt; 0
// for never. A message can carry a limit of its own, which wins.
func WithMaxRetries(n int) HandleOption {
	return func(h *handler) error {
		h.maxRetries = n
		return check(n >= 0, "the number of retries must not be negative")
	}
}

// WithBackoff sets how long a failed attempt waits for the next one; see
// [Backoff] for what applies without it.
func WithBackoff(b Backoff) HandleOption {
	return func(h *handler) error {
		h.backoff = b
		return nil
	}
}

// WithTimeLimit bounds one attempt: after d its context ends with
// [ErrTimeLimit] and the task fails for good, as in Celery. A handler that does
// not return within a second of that is left behind: its slot is given to the
// next task while it still runs. A message can carry a limit of its own, which
// wins.
func WithTimeLimit(d time.Duration) HandleOption {
	return func(h *handler) error {
		h.hard = d
		return check(d > 0, "the time limit must be positive")
	}
}

// WithRetention sets how long a result of the task is kept instead of
// [Options].ResultTTL. A message can carry a retention of its own, which wins.
func WithRetention(d time.Duration) HandleOption {
	return func(h *handler) error {
		h.retention = d
		return check(d >= time.Second, "the retention must be at least 1s")
	}
}

// WithIndex lets tasks be found by the values of fields of their input, named as
// in JSON: GET /v1/tasks?input.user_id=42. Values that are no text, number or
// boolean, or have more than 512 bytes, are left out. It costs a write to Redis
// for each task and field, and 250 bytes there where each task has a value of
// its own. The 10,000 newest tasks with a value are found.
func WithIndex(fields ...string) HandleOption {
	return func(h *handler) error {
		h.indexed = append(h.indexed, fields...)
		return nil
	}
}

// WithCompression stores results of the task compressed when they have more than
// so many bytes, instead of [Options].CompressAbove; 0 for never. Celery clients
// do not read such a result: see there.
func WithCompression(above int) HandleOption {
	return func(h *handler) error {
		h.compressAbove = above
		return check(above >= 0, "the size of a result must not be negative")
	}
}

// WithSoftTimeLimit ends the context of an attempt with [ErrSoftTimeLimit]
// after d. What the handler then returns counts: an error is retried like any
// other. A message can carry a limit of its own, which wins.
func WithSoftTimeLimit(d time.Duration) HandleOption {
	return func(h *handler) error {
		h.soft = d
		return check(d > 0, "the soft time limit must be positive")
	}
}

func checkName(name string) error {
	if len(name) > maxNameLength {
		return fmt.Errorf("the name has more than %d bytes", maxNameLength)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:-]*$`).MatchString(name) {
		return errors.New(`a name is made of letters, digits and "_.:-", and starts with a letter, a digit or "_"`)
	}
	return nil
}

package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// middleware puts the checks in front of the router, outermost first. They are
// plain net/http, so that they hold for whatever router is behind them.
func (a *API) middleware(router http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(denyCrossOrigin))
	h := origin.Handler(a.identify(headAsGet(router)))
	h = singleHeaders(h)
	h = allowHosts(a.opts.AllowedHosts, h)
	h = secureHeaders(h)
	h = recoverPanics(h)
	return a.logRequests(h)
}

func denyCrossOrigin(w http.ResponseWriter, r *http.Request) {
	newProblem(slugCrossOrigin, "a browser sent this on behalf of another site; call the API from its own origin or from a program").write(w, r)
}

// headAsGet answers HEAD wherever there is a GET; net/http leaves the body out.
func headAsGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			get := *r
			get.Method = http.MethodGet
			r = &get
		}
		next.ServeHTTP(w, r)
	})
}

// exchange is what is learned about a request on its way, for the log.
type exchange struct {
	requestID string
	route     string
	taskID    string
	problem   *problem
	head      bool          // only the headers of the answer are wanted
	stream    bool          // the answer takes as long as its client listens
	grant     *access.Grant // nil before it is known
	// action is what a steering act is called, target what it is about, and
	// which says which of many.
	action, target, which string

	span trace.Span // nil without tracing
}

type exchangeKey struct{}

// requestContext is that of a request with its exchange. What the exchange comes
// to know, such as who it is, the context knows too: that spares one more copy of
// every request.
type requestContext struct {
	context.Context
	x *exchange
}

// Value implements [context.Context].
func (c *requestContext) Value(key any) any {
	if _, ours := key.(exchangeKey); ours {
		return c.x
	}
	if access.IsKey(key) {
		return c.x.grant
	}
	return c.Context.Value(key)
}

// exchangeOf returns the exchange of a request, and one that nobody reads when
// there is none.
func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

func (x *exchange) fail(p *problem) {
	x.problem = p
	if p.TaskID != "" {
		x.taskID = p.TaskID
	}
}

// logRequests names the request and writes one line when it is answered. It
// never writes payloads, queries or header values other than the request id.
func (a *API) logRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		x := &exchange{requestID: requestID(r), head: r.Method == http.MethodHead}
		w.Header().Set("X-Request-Id", x.requestID)
		rec := &recorder{ResponseWriter: w}
		defer func() {
			a.metrics.observe(r.Method, rec.status, x, time.Since(begun))
			x.endSpan(r.Method, rec.status)
			if x.action != "" {
				a.audit(r, x, rec.status)
			}
			if line := a.opts.Log.Check(level(rec.status, x), "request"); line != nil {
				line.Write(fields(r, rec, x, time.Since(begun))...)
			}
		}()
		ctx := a.beginSpan(r.Context(), r, x)
		next.ServeHTTP(rec, r.WithContext(&requestContext{ctx, x})) //nolint:contextcheck // it wraps that of the request
	})
}

// level keeps the log of a healthy server short: what went well is a line only
// for those who ask for it, and costs nothing else.
func level(status int, x *exchange) zapcore.Level {
	switch {
	case x.problem != nil && x.problem.kind == slugInternal:
		return zapcore.ErrorLevel
	case x.problem != nil && x.problem.kind == slugOverloaded:
		return zapcore.DebugLevel // a line for each would add to the load; they are counted
	case status >= http.StatusInternalServerError:
		return zapcore.WarnLevel
	case status >= http.StatusBadRequest:
		return zapcore.InfoLevel
	default:
		return zapcore.DebugLevel
	}
}

func fields(r *http.Request, rec *recorder, x *exchange, took time.Duration) []zap.Field {
	f := []zap.Field{
		zap.String("request_id", x.requestID), zap.String("method", r.Method), zap.String("path", r.URL.Path),
		zap.String("route", x.route), zap.Int("status", rec.status), zap.Int64("bytes", rec.bytes), zap.Duration("took", took),
	}
	if x.taskID != "" {
		f = append(f, zap.String("task_id", x.taskID))
	}
	if x.grant != nil && x.grant.Who != access.Anonymous {
		f = append(f, zap.String("who", x.grant.Who))
	}
	if x.problem != nil {
		f = append(f, zap.String("problem", string(x.problem.kind)))
		if x.problem.cause != nil {
			f = append(f, zap.Error(x.problem.cause))
		}
	}
	return f
}

// requestID takes the client's id when it is harmless, and a new one otherwise.
func requestID(r *http.Request) string {
	const longest = 128
	id := r.Header.Get("X-Request-Id")
	if id == "" || len(id) > longest || strings.ContainsFunc(id, notInID) {
		return messages.NewID()
	}
	return id
}

func notInID(c rune) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return false
	}
	return !strings.ContainsRune("-_.:", c)
}

// recoverPanics turns a panic into a 500, or cuts the connection when the
// answer has begun.
func recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer answerPanic(w, r)
		next.ServeHTTP(w, r)
	})
}

// answerPanic is to be deferred.
func answerPanic(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http asks for this very value
		panic(v)
	}
	p := problemOf(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
	if rec, ok := w.(*recorder); ok && rec.status != 0 {
		exchangeOf(r.Context()).fail(p)
		panic(http.ErrAbortHandler)
	}
	p.write(w, r)
}

// secureHeaders sets what a browser must know about an answer that is no page.
// The pages set a policy of their own.
func secureHeaders(next http.Handler) http.Handler {
	always := http.Header{}
	for name, value := range map[string]string{
		"X-Content-Type-Options":       "nosniff",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
		"Referrer-Policy":              "no-referrer",
		"Cache-Control":                "no-store",
	} {
		always.Set(name, value)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The values are shared by all answers: whoever sets a header puts
		// another slice in its place.
		maps.Copy(w.Header(), always)
		if r.TLS != nil {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// recorder remembers the status of an answer and counts its bytes.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader remembers the first status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

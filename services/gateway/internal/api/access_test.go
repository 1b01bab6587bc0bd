package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// fakeGate knows its keys by their names.
type fakeGate struct {
	grants map[string]*access.Grant
	err    error
}

func (g fakeGate) Identify(r *http.Request) (*access.Grant, error) {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case g.err != nil:
		return nil, g.err
	case !ok:
		return nil, ErrNoCredentials
	case g.grants[name] == nil:
		return nil, access.ErrUnknown
	}
	return g.grants[name], nil
}

func grantOf(who string, scopes ...access.Scope) *access.Grant {
	return &access.Grant{Who: who, KeyID: "id-" + who, Scopes: scopes}
}

// newGuarded is a server with a key for each scope, and with two that are for
// one task or one queue only.
func newGuarded(t *testing.T, change ...func(*Options)) *server {
	t.Helper()
	mailer := grantOf("mailer", access.Admin)
	mailer.Tasks = []access.Pattern{"send_*"}
	keeper := grantOf("keeper", access.Admin)
	keeper.Queues = []access.Pattern{"mail"}
	gate := fakeGate{grants: map[string]*access.Grant{
		"submit": grantOf("submit", access.Submit), "read": grantOf("read", access.Read), "admin": grantOf("admin", access.Admin),
		"mailer": mailer, "keeper": keeper,
	}}
	s := newServer(t, append([]func(*Options){func(o *Options) { o.Gate = gate }}, change...)...)
	s.catalog.refresh(t.Context(), 0)
	return s
}

func as(key string) string { return "Authorization: Bearer " + key }

// Every operation that there is asks for its scope, also one that is added
// tomorrow.
func TestEveryRouteAsksForItsScope(t *testing.T) {
	t.Parallel()
	s := newGuarded(t)
	var doc struct {
		Paths map[string]map[string]struct {
			ID       string                `json:"operationId"`
			Security []map[string][]string `json:"security"`
		} `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(s.catalog.bare, &doc))
	open, asked := 0, 0
	for path, methods := range doc.Paths {
		target := strings.NewReplacer("{id}", "x", "{name}", "sleep_task", "{queue}", "default", "{worker}", "x").Replace(path)
		for method, op := range methods {
			method = strings.ToUpper(method)
			w := s.ask(t, method, target, "")
			if len(op.Security) == 0 {
				require.Equal(t, http.StatusOK, w.Code, "%s %s", method, path)
				open++
				continue
			}
			requireProblem(t, w, http.StatusUnauthorized, slugUnauthorized)
			require.Equal(t, `Bearer realm="lovage"`, w.Header().Get("WWW-Authenticate"))
			need := op.Security[0][securityScheme][0]
			for _, key := range []string{"submit", "read", "admin"} {
				w := s.ask(t, method, target, "", as(key))
				if key == need || key == "admin" {
					require.NotContains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, w.Code, "%s %s with %s", method, path, key)
					continue
				}
				requireProblem(t, w, http.StatusForbidden, slugForbidden)
			}
			asked++
		}
	}
	require.Equal(t, 2, open, "the probes")
	require.Greater(t, asked, 20)
}

func TestPagesAndDocumentAreNotForStrangers(t *testing.T) {
	t.Parallel()
	s := newGuarded(t)
	for _, path := range []string{"/openapi.json", "/docs", "/docs/", "/docs/assets/x.js", "/nowhere", "/v1/nowhere", "/", "/console", "/login/x", "/livez/x", "//livez", "/livez/"} {
		requireProblem(t, s.ask(t, get, path, ""), http.StatusUnauthorized, slugUnauthorized)
		w := s.ask(t, get, path, "", "Accept: text/html,*/*")
		if strings.HasPrefix(path, "/v1/") {
			requireProblem(t, w, http.StatusUnauthorized, slugUnauthorized)
			continue
		}
		require.Equal(t, http.StatusSeeOther, w.Code, path)
		require.True(t, strings.HasPrefix(w.Header().Get("Location"), "/login?next=%2F"), w.Header().Get("Location"))
	}
	// A form that comes after the end of a session leads back to its page.
	for referer, next := range map[string]string{"http://localhost:8080/console/queues?a=b": "%2Fconsole%2Fqueues%3Fa%3Db", "http://evil.example/x": "", "": ""} {
		w := s.ask(t, http.MethodPost, "/console/queues/q/pause", "", "Accept: text/html,*/*", "Referer: "+referer)
		require.Equal(t, http.StatusSeeOther, w.Code)
		require.Equal(t, "/login?next="+next, w.Header().Get("Location"), referer)
	}
	require.Equal(t, http.StatusOK, s.ask(t, get, "/openapi.json", "", as("read")).Code)
	for _, method := range []string{http.MethodOptions, http.MethodTrace, http.MethodConnect, "GARBAGE"} {
		requireProblem(t, s.ask(t, method, "/v1/tasks", ""), http.StatusUnauthorized, slugUnauthorized)
	}
	require.Equal(t, http.StatusOK, s.ask(t, http.MethodHead, "/livez", "").Code)
	require.Equal(t, http.StatusUnauthorized, s.ask(t, http.MethodHead, "/v1/tasks", "").Code)
}

func TestPagesOfOthersAreGuardedLikeTheAPI(t *testing.T) {
	t.Parallel()
	s := newGuarded(t)
	page := s.Guard("/console", access.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(access.From(r.Context()).Who))
	}))
	ask := func(host string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), post, "/console/x", nil)
		r.Host = host
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		return w
	}
	require.Equal(t, "read", ask("localhost", as("read")).Body.String())
	requireProblem(t, ask("localhost"), http.StatusUnauthorized, slugUnauthorized)
	requireProblem(t, ask("localhost", as("submit")), http.StatusForbidden, slugForbidden)
	requireProblem(t, ask("localhost", as("keeper")), http.StatusForbidden, slugForbidden)
	requireProblem(t, ask("evil.example", as("read")), http.StatusMisdirectedRequest, slugMisdirected)
	requireProblem(t, ask("localhost", as("read"), "Sec-Fetch-Site: cross-site"), http.StatusForbidden, slugCrossOrigin)
	require.Equal(t, "nosniff", ask("localhost").Header().Get("X-Content-Type-Options"))
}

func TestAKeyInTheQueryIsNone(t *testing.T) {
	t.Parallel()
	s := newGuarded(t)
	for _, query := range []string{"access_token=admin", "api_key=admin", "token=admin", "key=admin", "Authorization=Bearer+admin"} {
		requireProblem(t, s.ask(t, get, "/v1/catalog?"+query, ""), http.StatusUnauthorized, slugUnauthorized)
	}
	for _, header := range []string{"Authorization: Basic YTpi", "Authorization: admin", "Authorization: bearer", "X-Api-Key: admin", "Cookie: key=admin", "Proxy-Authorization: Bearer admin"} {
		requireProblem(t, s.ask(t, get, "/v1/catalog", "", header), http.StatusUnauthorized, slugUnauthorized)
	}
	requireProblem(t, s.ask(t, get, "/v1/catalog", "", as("admin"), as("read")), http.StatusBadRequest, slugRepeatedHeader)
}

func TestWhyNobodyIsLetIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		kind   slug
		after  string
	}{
		{access.ErrUnknown, http.StatusUnauthorized, slugUnauthorized, ""},
		{access.ErrExpired, http.StatusUnauthorized, slugUnauthorized, ""},
		{access.ErrRevoked, http.StatusUnauthorized, slugUnauthorized, ""},
		{access.ErrNotLoaded, http.StatusServiceUnavailable, slugNoAccess, "1"},
		{errors.New("redis: geheim"), http.StatusServiceUnavailable, slugNoAccess, "1"},
		{&LockedError{RetryAfter: 90 * time.Second}, http.StatusTooManyRequests, slugLocked, "90"},
		{&LockedError{RetryAfter: 100 * time.Millisecond}, http.StatusTooManyRequests, slugLocked, "1"},
	} {
		s := newServer(t, func(o *Options) { o.Gate = fakeGate{err: c.err} })
		w := s.ask(t, get, "/v1/catalog", "")
		require.NotContains(t, w.Body.String(), "geheim")
		requireProblem(t, w, c.status, c.kind)
		require.Equal(t, c.after, w.Header().Get("Retry-After"))
	}
}

func TestAKeyForSomeTasksSubmitsOnlyThose(t *testing.T) {
	t.Parallel()
	s := newGuarded(t)
	for _, c := range []struct {
		key, target, body string
		status            int
	}{
		{"mailer", "/v1/tasks/send_mail", `{}`, http.StatusAccepted},
		{"mailer", "/v1/tasks/sleep_task", `{"duration":1}`, http.StatusForbidden},
		{"mailer", "/v1/tasks/sleep%5Ftask", `{"duration":1}`, http.StatusForbidden},
		{"mailer", "/v1/tasks", `{"task":"send_mail"}`, http.StatusAccepted},
		{"mailer", "/v1/tasks", `{"task":"sleep_task","args":[1]}`, http.StatusForbidden},
		{"mailer", "/v1/tasks", `{"task":"unknown","options":{"queue":"q"}}`, http.StatusForbidden},
		{"mailer", "/v1/tasks", `{"task":"send_news","options":{"queue":"anything"}}`, http.StatusAccepted},
		{"keeper", "/v1/tasks/send_mail", `{}`, http.StatusAccepted},
		{"keeper", "/v1/tasks/send_mail?queue=default", `{}`, http.StatusForbidden},
		{"keeper", "/v1/tasks/sleep_task", `{"duration":1}`, http.StatusForbidden},
		{"keeper", "/v1/tasks/sleep_task?queue=mail", `{"duration":1}`, http.StatusAccepted},
		{"keeper", "/v1/tasks", `{"task":"any","options":{"queue":"mail"}}`, http.StatusAccepted},
		{"keeper", "/v1/tasks", `{"task":"any","options":{"queue":"Mail"}}`, http.StatusForbidden},
	} {
		w := s.ask(t, post, c.target, c.body, as(c.key))
		require.Equal(t, c.status, w.Code, "%+v: %s", c, w.Body)
	}
	before := len(s.publisher.sent)
	w := s.ask(t, post, "/v1/batches", `[{"task":"send_mail"},{"task":"sleep_task","args":[1]}]`, as("mailer"))
	require.Contains(t, w.Body.String(), `"status":202`)
	require.Contains(t, w.Body.String(), `"status":403`)
	require.Len(t, s.publisher.sent, before+1)
}

func TestAKeyForSomeTasksSeesOnlyThose(t *testing.T) {
	t.Parallel()
	c := &fakeCallbacks{promised: map[string]string{"m": hook, "s": hook}}
	s := newGuarded(t, func(o *Options) { o.Callbacks = c })
	s.store.logs = map[string][]json.RawMessage{"m": {json.RawMessage(`{}`)}, "s": {json.RawMessage(`{}`)}}
	mail := &messages.Result{TaskID: "m", Name: "send_mail", Queue: "mail", State: messages.Failure}
	sleep := &messages.Result{TaskID: "s", Name: "sleep_task", Queue: "default", State: messages.Failure}
	s.store.put(mail)
	s.store.put(sleep)
	for _, key := range []string{"mailer", "keeper"} {
		for _, of := range []string{"", "/events", "/log", "/callback"} {
			require.Equal(t, http.StatusOK, s.ask(t, get, "/v1/tasks/m"+of, "", as(key)).Code, of)
			require.Equal(t, http.StatusNotFound, s.ask(t, get, "/v1/tasks/s"+of, "", as(key)).Code, of)
		}
		hidden := requireProblem(t, s.ask(t, get, "/v1/tasks/s", "", as(key)), http.StatusNotFound, slugTaskNotFound)
		none := requireProblem(t, s.ask(t, get, "/v1/tasks/t", "", as(key)), http.StatusNotFound, slugTaskNotFound)
		require.Equal(t, none.Detail, hidden.Detail, "it looks as if it were not there")
		for _, verb := range []string{"cancel", "retry"} {
			requireProblem(t, s.ask(t, post, "/v1/tasks/s/"+verb, "", as(key)), http.StatusNotFound, slugTaskNotFound)
		}
		s.store.page = Page{Results: []*messages.Result{mail, sleep}, Next: "more"}
		list := decode(t, s.ask(t, get, "/v1/tasks", "", as(key)))
		require.Len(t, list["tasks"], 1)
		require.Equal(t, "more", list["next_cursor"])
		for _, path := range []string{"/v1/catalog", "/openapi.json", "/v1/tasks"} {
			require.NotContains(t, s.ask(t, get, path, "", as(key)).Body.String(), `"sleep_task"`, path)
		}
		for _, path := range []string{"/v1/workers", "/v1/queues/default", "/v1/queues/default/dead"} {
			requireProblem(t, s.ask(t, get, path, "", as(key)), http.StatusForbidden, slugForbidden)
		}
	}
	require.Contains(t, s.ask(t, get, "/openapi.json", "", as("read")).Body.String(), "sleep_task")
}

func TestAKeyForSomeTasksHearsOnlyOfThose(t *testing.T) {
	t.Parallel()
	s := newGuarded(t)
	s.listening(t)
	h := s.serve(t)
	for key, want := range map[string][]string{
		"mailer": {"a", "b"}, "keeper": {"c", "b"}, "read": {"d", "a", "c", "b"},
	} {
		l := hear(t, h, "/v1/events", as(key))
		s.events.tell("d", "a SUCCESS send_mail default", "c SUCCESS sleep_task mail", "b SUCCESS send_mail mail")
		require.Equal(t, want, l.ids(len(want)), key)
		l.hangUp()
	}
}

func TestAKeyForSomeQueuesSteersOnlyThose(t *testing.T) {
	t.Parallel()
	s := newGuarded(t)
	require.Equal(t, http.StatusOK, s.ask(t, post, "/v1/queues/mail/pause", "", as("keeper")).Code)
	for _, path := range []string{"/v1/queues/default/pause", "/v1/queues/default/redrive?all=true", "/v1/queues/mail%2F..%2Fdefault/pause"} {
		w := s.ask(t, post, path, "", as("keeper"))
		require.Equal(t, http.StatusForbidden, w.Code, "%s: %s", path, w.Body)
	}
	requireProblem(t, s.ask(t, post, "/v1/queues/mail/pause", "", as("mailer")), http.StatusForbidden, slugForbidden)
	queues := s.ask(t, get, "/v1/queues", "", as("keeper")).Body.String()
	require.Contains(t, queues, `"mail"`)
	require.NotContains(t, queues, `"default"`)
	requireProblem(t, s.ask(t, get, "/v1/queues", "", as("mailer")), http.StatusForbidden, slugForbidden)
}

func TestTheSameIdempotencyKeyOfTwoIsTwo(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"submit", "admin"} {
		s := newGuarded(t)
		w := s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`, as(key), "Idempotency-Key: k")
		require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
		require.Equal(t, key, s.keys.reservation.Scope)
	}
	s := newServer(t)
	s.catalog.refresh(t.Context(), 0)
	s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`, "Idempotency-Key: k")
	require.Empty(t, s.keys.reservation.Scope, "as it was before there were credentials")
}

// A route that forgets who asks would let everybody do everything, so nobody's
// request may do nothing.
func TestWithoutAGrantNothingIsPermitted(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), get, "/v1/tasks", nil)
	err := permit(&huma.Operation{OperationID: "anything", Method: get, Path: "/v1/anything"}, &call{request: r})
	require.ErrorContains(t, err, "scope read")
	require.Error(t, maySubmit(t.Context(), &messages.Task{Name: "x", Queue: "q"}))
	restricted := access.With(t.Context(), &access.Grant{Scopes: []access.Scope{access.Admin}, Queues: []access.Pattern{"q"}})
	err = permit(&huma.Operation{OperationID: "added-tomorrow", Method: post, Path: "/v1/anything"}, &call{request: r.WithContext(restricted)})
	require.ErrorContains(t, err, "some queues only", "nobody has looked at what patterns mean there")
}

func BenchmarkIdentify(b *testing.B) {
	gate := fakeGate{grants: map[string]*access.Grant{"k": grantOf("k", access.Read)}}
	a := &API{opts: Options{Gate: gate}}
	h := a.identify(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequestWithContext(&requestContext{b.Context(), &exchange{}}, get, "/v1/tasks", nil)
	r.Header.Set("Authorization", "Bearer k")
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

// fakeRates refuses from the third request on.
type fakeRates struct{ asked []string }

func (f *fakeRates) Take(_ context.Context, g *access.Grant) access.Quota {
	f.asked = append(f.asked, g.Who)
	q := access.Quota{Limit: 2, Window: 1500 * time.Millisecond, Remaining: max(0, 2-len(f.asked)), Reset: 700 * time.Millisecond}
	if len(f.asked) > 2 {
		q.RetryAfter = 2300 * time.Millisecond
	}
	return q
}

func TestWhatIsOverTheRateIsRefused(t *testing.T) {
	t.Parallel()
	rates := &fakeRates{}
	s := newGuarded(t, func(o *Options) { o.Rates = rates })
	for left := 1; left >= 0; left-- {
		w := s.ask(t, get, "/v1/catalog", "", as("read"))
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, `"default";q=2;w=2`, w.Header().Get("RateLimit-Policy"))
		require.Equal(t, fmt.Sprintf(`"default";r=%d;t=1`, left), w.Header().Get("RateLimit"))
	}
	w := s.ask(t, get, "/v1/catalog", "", as("read"))
	p := requireProblem(t, w, http.StatusTooManyRequests, slugRate)
	require.Equal(t, []string{"default"}, p.ViolatedPolicies)
	require.True(t, p.Retryable)
	require.Equal(t, "3", w.Header().Get("Retry-After"))
	require.Equal(t, `"default";r=0;t=1`, w.Header().Get("RateLimit"))
	s.ask(t, get, "/livez", "")
	s.ask(t, get, "/v1/catalog", "", as("nobody"))
	require.Len(t, rates.asked, 3, "probes and strangers take nothing from it")
	require.Empty(t, newGuarded(t).ask(t, get, "/v1/catalog", "", as("read")).Header().Get("RateLimit"))
}

// A page, its assets and what it shows anew count for what they ask of the API.
func TestPagesOfTheConsoleTakeNothingFromTheRate(t *testing.T) {
	t.Parallel()
	rates := &fakeRates{}
	s := newGuarded(t, func(o *Options) { o.Rates = rates })
	ask := func(h http.Handler, path string) int {
		r := httptest.NewRequestWithContext(t.Context(), get, path, nil)
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer read")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	pages := s.Guard(ConsolePath, access.Read, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, path := range []string{"/console", "/console/assets/console.css", "/console/banner", "/console/tasks/a/live"} {
		require.Equal(t, http.StatusOK, ask(pages, path), path)
	}
	require.Empty(t, rates.asked)
	metrics := s.Guard(RouteMetrics, access.Read, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, path := range []string{RouteMetrics, "/consoles"} {
		require.Equal(t, http.StatusOK, ask(metrics, path), path)
	}
	require.Len(t, rates.asked, 2)
}

// fakeAudit is an audit in memory, newest last.
type fakeAudit struct {
	entries []access.Entry
	err     error
}

func (f *fakeAudit) Record(e access.Entry) { f.entries = append(f.entries, e) }

func (f *fakeAudit) List(_ context.Context, before string, limit int) ([]access.Entry, error) {
	if before == "bad" {
		return nil, access.ErrCursor
	}
	var list []access.Entry
	for i := len(f.entries) - 1; i >= 0 && len(list) < limit; i-- {
		e := f.entries[i]
		e.ID = fmt.Sprintf("%d-0", i)
		list = append(list, e)
	}
	return list, f.err
}

func TestEverySteeringActIsAudited(t *testing.T) {
	t.Parallel()
	audit := &fakeAudit{}
	core, lines := observer.New(zap.InfoLevel)
	s := newGuarded(t, func(o *Options) { o.Audit, o.Log = audit, zap.New(core) })
	var doc struct {
		Paths map[string]map[string]struct {
			ID string `json:"operationId"`
		} `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(s.catalog.bare, &doc))
	acts := 0
	for path, methods := range doc.Paths {
		target := strings.NewReplacer("{id}", "x", "{name}", "sleep_task", "{queue}", "default", "{worker}", "x").Replace(path)
		for method, op := range methods {
			method = strings.ToUpper(method)
			before := len(audit.entries)
			s.ask(t, method, target, "", as("admin"))
			s.ask(t, method, target, "", as("read"))
			if method == get || strings.HasPrefix(op.ID, "submit-") {
				require.Len(t, audit.entries, before, "%s %s", method, path)
				continue
			}
			require.Len(t, audit.entries, before+2, "%s %s", method, path)
			done, refused := audit.entries[before], audit.entries[before+1]
			require.Equal(t, "admin", done.Who)
			require.Equal(t, "id-admin", done.KeyID)
			require.Equal(t, op.ID, done.Action)
			require.Equal(t, target, done.Target)
			require.NotEmpty(t, done.RequestID)
			require.Equal(t, "192.0.2.1", done.Address)
			require.Equal(t, "read", refused.Who)
			require.Equal(t, string(slugForbidden), refused.Outcome)
			acts++
		}
	}
	require.Greater(t, acts, 8)
	require.Equal(t, 2*acts, lines.FilterMessage("audit").Len())

	s.ask(t, post, "/v1/queues/mail/pause", "", as("admin"))
	list := decode(t, s.ask(t, get, "/v1/audit?limit=1", "", as("admin")))
	entry := list["entries"].([]any)[0].(map[string]any)
	require.Equal(t, "pause-queue", entry["action"])
	require.Equal(t, "/v1/queues/mail/pause", entry["target"])
	require.Equal(t, "ok", entry["outcome"])
	require.NotNil(t, list["next_cursor"])
	requireProblem(t, s.ask(t, get, "/v1/audit?cursor=bad", "", as("admin")), http.StatusUnprocessableEntity, slugParameters)
	requireProblem(t, s.ask(t, get, "/v1/audit", "", as("read")), http.StatusForbidden, slugForbidden)
	audit.err = access.ErrUnavailable
	requireProblem(t, s.ask(t, get, "/v1/audit", "", as("admin")), http.StatusServiceUnavailable, "store-unavailable")
}

func TestWithoutKeysTheAuditIsAnonymous(t *testing.T) {
	t.Parallel()
	audit := &fakeAudit{}
	s := newServer(t, func(o *Options) { o.Audit = audit })
	s.ask(t, post, "/v1/queues/mail/pause?access_token=geheim", "")
	require.Equal(t, access.Anonymous, audit.entries[0].Who)
	require.Equal(t, "/v1/queues/mail/pause", audit.entries[0].Target, "what was refused may be a secret")
	s.ask(t, post, "/v1/queues/mail/discard?all=true&dry_run=true", "")
	require.Equal(t, "/v1/queues/mail/discard?all=true&dry_run=true", audit.entries[1].Target)
	s.ask(t, post, "/v1/queues/"+strings.Repeat("m", 5000)+"/pause", "")
	require.Len(t, audit.entries[2].Target, 2000)
}

func TestALongURLIsRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	requireProblem(t, s.ask(t, get, "/v1/tasks?cursor="+strings.Repeat("x", 9000), ""), http.StatusRequestURITooLong, slugLongURL)
	require.NotEqual(t, http.StatusRequestURITooLong, s.ask(t, get, "/v1/tasks?cursor="+strings.Repeat("x", 8000), "").Code)
}

package console

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/client"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// still is a fleet without anybody.
type still struct{}

func (still) Workers(context.Context) ([]messages.WorkerInfo, error) { return nil, nil }

func (still) Ready(string) (int, bool) { return 0, false }

// newConsole shows what an API answers by path.
func newConsole(t *testing.T, api http.HandlerFunc) *Console {
	t.Helper()
	c, err := New(Options{API: api, Fleet: still{}})
	require.NoError(t, err)
	return c
}

func get(t *testing.T, c *Console, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
	return w
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	if status >= http.StatusBadRequest {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a recorder takes it
}

func TestAPageCarriesTheCredentialsOfWhoAsksForIt(t *testing.T) {
	t.Parallel()
	var seen []*http.Request
	c := newConsole(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r)
		answer(w, http.StatusOK, `{"tasks":[]}`)
	})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/console/tasks", nil)
	r.Header.Set("Authorization", "Bearer x")
	r.Header.Set("Cookie", "a=b")
	r.Host, r.RemoteAddr = "lovage.example.com", "192.0.2.7:1"
	c.ServeHTTP(httptest.NewRecorder(), r)
	require.NotEmpty(t, seen)
	for _, call := range seen {
		require.Equal(t, "Bearer x", call.Header.Get("Authorization"), call.URL.Path)
		require.Equal(t, "a=b", call.Header.Get("Cookie"), call.URL.Path)
		require.Equal(t, "192.0.2.7:1", call.RemoteAddr, call.URL.Path)
		require.Equal(t, "lovage.example.com", call.Host, "the name of a session's cookie depends on it")
		require.NotNil(t, call.Body)
	}
}

func TestWhatTheAPIRefusesIsShown(t *testing.T) {
	t.Parallel()
	c := newConsole(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusServiceUnavailable, `{"type":"urn:lovage:problem:store-unavailable","title":"x","status":503,"retryable":true}`)
	})
	page := get(t, c, "/console/tasks")
	require.Equal(t, http.StatusServiceUnavailable, page.Code)
	require.Contains(t, page.Body.String(), "Redis does not answer")
	require.Contains(t, page.Body.String(), `hx-trigger="every 2s"`, "it comes back by itself")

	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/console/tasks", nil)
	r.Header.Set("HX-Request", "true")
	part := httptest.NewRecorder()
	c.ServeHTTP(part, r)
	require.Equal(t, http.StatusOK, part.Code, "htmx shows nothing else")
	require.Contains(t, part.Body.String(), "Redis does not answer")
	require.NotContains(t, part.Body.String(), "<html")
}

func TestEveryPageSaysThatNobodyHasToShowAKey(t *testing.T) {
	t.Parallel()
	api := func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, `{}`) }
	open, err := New(Options{API: http.HandlerFunc(api), Fleet: still{}, Unguarded: true})
	require.NoError(t, err)
	for _, target := range []string{
		"", "/tasks", "/tasks/a", "/tasks/a/again", "/submit", "/submit/x", "/queues", "/queues/q/purge", "/dead", "/dead/q",
		"/dead/q/letters/a", "/dead/q/operations/a", "/workers", "/workers/w", "/catalog", "/audit", "/nothing",
	} {
		const notice = "Nobody has to show a key"
		require.Contains(t, get(t, open, "/console"+target).Body.String(), notice, target)
		require.NotContains(t, get(t, newConsole(t, api), "/console"+target).Body.String(), notice, target)
	}
}

// What a key may not do is not offered, on whole pages and on the parts that are
// asked for again.
func TestAPageOffersWhatTheKeyMayDo(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/v1/tasks":                 `{"tasks":[]}`,
		"/v1/tasks/a":               `{"task_id":"a","name":"x","queue":"q","state":"FAILURE"}`,
		"/v1/tasks/b":               `{"task_id":"b","name":"x","queue":"q","state":"STARTED"}`,
		"/v1/catalog":               `{"tasks":[{"name":"x","queue":"q"}]}`,
		"/v1/queues":                `{"queues":[{"name":"q","state":"running"},{"name":"p","state":"paused"}]}`,
		"/v1/queues/q/purge":        `{"ready":2}`,
		"/v1/queues/q/dead-groups":  `{"groups":[{"group":"g","count":1,"name":"x","reason":"permanent"}],"total":1}`,
		"/v1/queues/q/dead":         `{"dead_letters":[{"task_id":"a","name":"x"}]}`,
		"/v1/queues/q/dead/a":       `{"task_id":"a","name":"x"}`,
		"/v1/queues/q/operations":   `{"operations":[]}`,
		"/v1/queues/q/operations/o": `{"id":"o","queue":"q","kind":"redrive","state":"running"}`,
		"/v1/workers/w":             `{"name":"w","running":[{"task_id":"b","name":"x"}]}`,
		"/v1/workers":               `{"workers":[]}`,
		"/readyz":                   `{"status":"ok"}`,
	}
	c := newConsole(t, func(w http.ResponseWriter, r *http.Request) {
		body, known := answers[r.URL.Path]
		if !known {
			body = `{}`
		}
		answer(w, http.StatusOK, body)
	})
	with := func(has access.Scope) context.Context {
		return access.With(t.Context(), &access.Grant{Who: "ada", KeyID: "k", Scopes: []access.Scope{access.Read, has}})
	}
	ask := func(has access.Scope, page, part string) string {
		r := httptest.NewRequestWithContext(with(has), http.MethodGet, "/console"+page, nil)
		r.Header.Set("HX-Request", part)
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code, page)
		return w.Body.String()
	}
	const submit, admin = access.Submit, access.Admin
	for _, offer := range []struct {
		page, text string
		takes      access.Scope
	}{
		{"", `href="/console/submit"`, submit},
		{"/tasks", `id="first"`, submit},
		{"/catalog", `href="/console/submit/x"`, submit},
		{"/submit/x", `id="send"`, submit},
		{"/tasks/b", `id="cancel"`, submit},
		{"/tasks/b", `id="again"`, submit},
		{"/tasks/b/again", `id="send"`, submit},
		{"/tasks/a", `id="retry"`, submit},
		{"/tasks/a", `id="again"`, admin},
		{"/tasks/a/again", `id="send"`, admin},
		{"/queues", `id="pause-q"`, admin},
		{"/queues", `id="resume-p"`, admin},
		{"/queues", `/q/purge"`, admin},
		{"/queues/q/purge", `id="purge"`, admin},
		{"/dead/q?group=g", `id="redrive-g"`, admin},
		{"/dead/q?group=g", `/discard"`, admin},
		{"/dead/q?group=g", `>Send again<`, admin},
		{"/dead/q/letters/a", `id="send"`, admin},
		{"/dead/q/operations/o", `>Stop<`, admin},
		{"/workers/w", `id="slots"`, admin},
		{"/workers/w", `id="stop"`, admin},
		{"/workers/w", `id="d-b"`, admin},
	} {
		for _, has := range []access.Scope{access.Read, submit, admin} {
			may := has == admin || has == offer.takes
			page, part := ask(has, offer.page, ""), ask(has, offer.page, "true")
			require.Equal(t, may, strings.Contains(page, offer.text), "%s of %q to the scope %s", offer.text, offer.page, has)
			require.True(t, may || !strings.Contains(part, offer.text), "%s of a part of %q to the scope %s", offer.text, offer.page, has)
		}
		require.Contains(t, get(t, c, "/console"+offer.page).Body.String(), offer.text, "where nobody has to show a key")
	}
	started := &client.Task{TaskID: "b", Name: "x", State: client.Started}
	require.NotContains(t, c.event(with(access.Read), "b", started), "<form")
	require.Contains(t, c.event(with(submit), "b", started), "<form")
}

func TestPagesHaveNothingInline(t *testing.T) {
	t.Parallel()
	templates, err := fs.Glob(files, "templates/*.html")
	require.NoError(t, err)
	for _, name := range templates {
		text, err := fs.ReadFile(files, name)
		require.NoError(t, err)
		require.NotRegexp(t, `(?i)\sstyle=|\son[a-z]+=|<style|javascript:|<script>|hx-on|hx-vals="js`, string(text), name)
		require.NotRegexp(t, `(?i)(src|href)="(https?:)?//`, string(text), name)
	}
	c := newConsole(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, `{}`) })
	page := get(t, c, "/console")
	require.Equal(t, policy, page.Header().Get("Content-Security-Policy"))
	require.NotContains(t, policy, "unsafe")
	for _, reference := range regexp.MustCompile(`(?:src|href)="(/console/assets/[^"]+)"`).FindAllStringSubmatch(page.Body.String(), -1) {
		asset := get(t, c, reference[1])
		require.Equal(t, http.StatusOK, asset.Code, reference[1])
		require.Contains(t, asset.Header().Get("Cache-Control"), "immutable")
	}
}

// A browser loads all of it once.
func TestAllOfItIsSmall(t *testing.T) {
	t.Parallel()
	plain, packed := 0, 0
	err := fs.WalkDir(files, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, ".txt") {
			return err
		}
		content, err := fs.ReadFile(files, name)
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(content)
		_ = z.Close()
		plain, packed = plain+len(content), packed+b.Len()
		return err
	})
	require.NoError(t, err)
	t.Logf("%d bytes, %d compressed", plain, packed)
	require.Less(t, plain, 80_000)
}

func TestHTMXIsTheVersionThatTheREADMENames(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	version := regexp.MustCompile("`htmx.org` ([0-9.]+)").FindSubmatch(readme)
	require.NotNil(t, version)
	script, err := fs.ReadFile(files, "assets/htmx.min.js")
	require.NoError(t, err)
	require.Contains(t, string(script), `version:"`+string(version[1])+`"`)
	licence, err := fs.ReadFile(files, "assets/htmx.LICENSE.txt")
	require.NoError(t, err)
	require.Contains(t, string(licence), "Zero-Clause BSD")
}

func TestNoPage(t *testing.T) {
	t.Parallel()
	c := newConsole(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, `{}`) })
	for _, target := range []string{"/console/nothing", "/console/assets/nothing.js", "/console/../console.go"} {
		require.NotEqual(t, http.StatusOK, get(t, c, target).Code, target)
	}
	require.Contains(t, get(t, c, "/console/nothing").Body.String(), "No such page")
}

// The log is asked for again until the task has ended and all of it is there.
func TestTheLogIsAskedForUntilNothingIsToCome(t *testing.T) {
	t.Parallel()
	var task atomic.Value
	c := newConsole(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/log"):
			answer(w, http.StatusOK, `{"lines":[{"level":"warn","message":"<i>","attempt":2,"fields":{"a":1}}]}`)
		case task.Load() == "":
			answer(w, http.StatusServiceUnavailable, `{"status":503}`)
		default:
			answer(w, http.StatusOK, task.Load().(string))
		}
	})
	ended := func(ago time.Duration) string {
		return `{"task_id":"a","state":"SUCCESS","date_done":"` + time.Now().Add(-ago).UTC().Format(time.RFC3339) + `"}`
	}
	for answered, want := range map[string]int{`{"task_id":"a","state":"STARTED"}`: 200, ended(0): 200, ended(time.Minute): 286, "": 204} {
		task.Store(answered)
		page := get(t, c, "/console/tasks/a/log")
		require.Equal(t, want, page.Code, answered)
		require.Equal(t, want != http.StatusNoContent, strings.Contains(page.Body.String(), "&lt;i&gt;"), answered)
		require.Equal(t, want == http.StatusOK, strings.Contains(get(t, c, "/console/tasks/a").Body.String(), `hx-get="/console/tasks/a/log"`), answered)
	}
}

// A text of a task cannot end the event that shows it.
func TestAnEventKeepsItsLines(t *testing.T) {
	t.Parallel()
	c := newConsole(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, `{}`) })
	e := c.event(t.Context(), "a", &client.Task{
		TaskID: "a", State: client.Failure, Name: "x",
		Error: &client.TaskError{Type: "E", Message: "a\revent: end\r\ndata: b\n\n\revent: x<script>"},
	})
	require.NotContains(t, e, "\r")
	require.NotContains(t, e, "<script>")
	for line := range strings.Lines(strings.TrimSuffix(e, "\n\n")) {
		require.Regexp(t, `^(event: end$|data: )`, strings.TrimSuffix(line, "\n"))
	}
}

// A stream ends when the gateway stops, so that it can, and there are only so
// many of them.
func TestAStreamEndsWithTheGateway(t *testing.T) {
	t.Parallel()
	var stopping atomic.Bool
	c := newConsole(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/readyz":
			answer(w, http.StatusOK, `{"task_id":"a","state":"STARTED","name":"x"}`)
		case stopping.Load():
			answer(w, http.StatusServiceUnavailable, `{"status":"draining"}`)
		default:
			answer(w, http.StatusOK, `{"status":"ok"}`)
		}
	})
	server := httptest.NewServer(c)
	defer server.Close()
	follow := func() *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/console/tasks/a/live", http.NoBody)
		require.NoError(t, err)
		res, err := server.Client().Do(r)
		require.NoError(t, err)
		return res
	}
	res := follow()
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	begin := make([]byte, 64)
	_, err := io.ReadFull(res.Body, begin)
	require.NoError(t, err)
	require.Contains(t, string(begin), "event: change\ndata: ")

	for range mostStreams - 1 {
		c.streams <- struct{}{}
	}
	full := follow()
	require.NoError(t, full.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, full.StatusCode)

	stopping.Store(true)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err, "it ends as streams do")
}

const schema = `{"type":"object","required":["url","count"],"properties":{
	"url":{"type":"string","minLength":1,"maxLength":200,"description":"Where."},
	"method":{"enum":["GET","POST"],"default":"POST"},
	"level":{"enum":[1,2]},
	"count":{"type":"integer","minimum":1,"maximum":9},
	"share":{"type":"number"},
	"sure":{"type":"boolean"},
	"headers":{"type":"object"},
	"any":true}}`

func fields(t *testing.T) []field {
	t.Helper()
	f := newFields(client.CatalogEntry{Input: json.RawMessage(schema), Params: []string{"url", "method"}})
	require.Len(t, f, 8)
	return f
}

func TestASchemaMakesAForm(t *testing.T) {
	t.Parallel()
	f := fields(t)
	var kinds []string
	for _, one := range f {
		kinds = append(kinds, one.Name+" "+one.Kind)
	}
	require.Equal(t, []string{"url text", "method choice", "any json", "count whole", "headers json", "level choice", "share number", "sure yesno"}, kinds)
	require.True(t, f[0].Required)
	require.Equal(t, "Where.", f[0].Description)
	require.Equal(t, "POST", f[1].Value)
	require.Equal(t, "1 to 9", f[3].Hint)
	require.Empty(t, newFields(client.CatalogEntry{Input: json.RawMessage(`true`)}))
	require.Empty(t, newFields(client.CatalogEntry{}))
}

func TestAFormMakesAnInput(t *testing.T) {
	t.Parallel()
	f := fields(t)
	_, good := read(f, url.Values{
		"in.url": {" a\r\nb"}, "in.method": {"GET"}, "in.level": {"2"}, "in.count": {"007"}, "in.share": {"1.5"},
		"in.sure": {"true"}, "in.headers": {`{"a": 1}`}, "in.any": {""},
	})
	require.False(t, good)
	require.NotEmpty(t, f[3].Error, "a whole number of JSON does not begin with 0")
	f = fields(t)
	input, good := read(f, url.Values{
		"in.url": {" a\r\nb"}, "in.method": {"GET"}, "in.level": {"2"}, "in.count": {"7"}, "in.share": {"1.5"},
		"in.sure": {"true"}, "in.headers": {`{"a": 1}`}, "in.any": {""},
	})
	require.True(t, good)
	require.JSONEq(t, `{"url":" a\nb","method":"GET","level":2,"count":7,"share":1.5,"sure":true,"headers":{"a":1}}`, string(input))

	again := fields(t)
	require.True(t, fill(again, input), "the form holds all of it")
	same, good := read(again, defaults(again))
	require.True(t, good)
	require.JSONEq(t, string(input), string(same))
}

func TestAFormSaysWhichFieldIsWrong(t *testing.T) {
	t.Parallel()
	f := fields(t)
	_, good := read(f, url.Values{"in.count": {"many"}, "in.headers": {"{"}, "in.share": {"true"}})
	require.False(t, good)
	wrong := map[string]string{}
	for _, one := range f {
		if one.Error != "" {
			wrong[one.Name] = one.Error
		}
	}
	require.Len(t, wrong, 3, "that a text is missing is for the task to say: %v", wrong)
	rest := blame(f, []client.FieldError{
		{Pointer: new("/url"), Detail: "must have at least 1 characters, got 0"}, {Pointer: new(""), Detail: "is odd"}, {Parameter: "queue", Detail: "is unknown"},
	})
	require.Contains(t, f[0].Error, "at least 1")
	require.Len(t, rest, 2)
}

// What a form cannot hold as it is stays JSON.
func TestAFormThatCannotHoldAnInput(t *testing.T) {
	t.Parallel()
	for _, input := range []string{
		`{"url":"a","other":1}`, `{"url":1,"count":1}`, `{"count":1e3}`, `[]`, `{"method":"PUT"}`, `{"sure":null}`, `{"url":"a\r\nb"}`,
	} {
		require.False(t, fill(fields(t), json.RawMessage(input)), input)
	}
	require.True(t, fill(fields(t), json.RawMessage(`{"url":"","count":1,"any":null}`)))
}

func TestSamplesAreComparedByWorker(t *testing.T) {
	t.Parallel()
	s := newSampler(still{})
	begun := time.Now()
	w := messages.WorkerInfo{Name: "a", Slots: 4, Busy: 1, Queues: []string{"q"}, Started: begun.Add(-time.Hour)}
	w.Totals = messages.WorkerTotals{Succeeded: 1000, Failed: 10}
	require.Zero(t, s.compare([]messages.WorkerInfo{w}, true, begun).finished, "what was before is not known")

	w.Totals.Succeeded, w.Totals.Failed, w.Totals.Runs[0] = 1008, 12, 10
	late := messages.WorkerInfo{Name: "b", Slots: 4, Started: begun.Add(time.Second), Totals: messages.WorkerTotals{Succeeded: 10}}
	one := s.compare([]messages.WorkerInfo{w, late}, true, begun.Add(10*time.Second))
	require.InDelta(t, 2.0, one.finished, 1e-6, "the new one has done all of it since")
	require.InDelta(t, 0.2, one.failed, 1e-6)
	require.Equal(t, 8, one.slots)

	require.False(t, s.compare(nil, false, begun.Add(12*time.Second)).known)
	gone := s.compare([]messages.WorkerInfo{late}, true, begun.Add(20*time.Second))
	require.Zero(t, gone.finished)
	require.Equal(t, 1, gone.workers)
}

func TestAPlotHasGapsWhereNothingIsKnown(t *testing.T) {
	t.Parallel()
	at := time.Now()
	var samples []sample
	for i := range 6 {
		samples = append(samples, sample{at: at.Add(time.Duration(i) * time.Second), known: i != 3, finished: float64(i)})
	}
	f := newFigures(samples)
	require.Equal(t, 2, strings.Count(f.Throughput.Line, "M"))
	require.Equal(t, 2, strings.Count(f.Throughput.Area, "Z"))
	require.InDelta(t, 5.0, f.Throughput.Most, 1e-9)
	require.InDelta(t, 12.0/5, f.PerSecond, 1e-9)
	require.Zero(t, f.FailureRate)
	require.True(t, math.IsNaN(f.Median))
	require.Empty(t, newFigures(nil).Depth.Line)
}

func TestTimesAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	require.Equal(t, "–", ago(time.Time{}))
	require.Equal(t, "just now", ago(time.Now()))
	require.Equal(t, "3 min ago", ago(time.Now().Add(-200*time.Second)))
	require.Equal(t, "in 5 h", ago(time.Now().Add(5*time.Hour+time.Minute)))
	require.Equal(t, "12.5 ms", duration(12500*time.Microsecond))
	require.Equal(t, "1\u202f234\u202f567", grouped(1234567))
	require.Equal(t, "-1\u202f000", grouped(-1000))
}

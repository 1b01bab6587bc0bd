package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// endpoint is what http_request calls. /wrong is not found and /ill fails until
// it is well, and all else is answered.
type endpoint struct {
	*httptest.Server
	well atomic.Bool
}

func newEndpoint(tb testing.TB) *endpoint {
	tb.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case e.well.Load():
		case strings.HasPrefix(path, "/wrong"):
			http.Error(w, "no such customer", http.StatusNotFound)
		case strings.HasPrefix(path, "/ill"):
			http.Error(w, "out of paper", http.StatusServiceUnavailable)
		}
	}))
	tb.Cleanup(e.Close)
	return e
}

// request submits an http_request and returns its id.
func (s *stack) request(url, query string) string {
	s.t.Helper()
	var v view
	status := s.post("/v1/tasks/http_request"+query, map[string]any{"url": url}, &v)
	require.Equal(s.t, http.StatusAccepted, status)
	return v.TaskID
}

func (s *stack) post(path string, body, into any) int {
	s.t.Helper()
	status, text := s.do(http.MethodPost, path, body, patient())
	require.NoError(s.t, json.Unmarshal(text, into), "%s", text)
	return status
}

const allowed = "LOVAGE_HTTP_ALLOW=127.0.0.1"

// A task is submitted through the form that its schema makes, its progress moves
// without a reload, and it is cancelled.
func TestConsoleSubmitsFollowsAndCancels(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	b := newBrowser(t, s)
	b.expect("status of 422") // of the form with a fault
	b.open("/console")
	b.sees("h1", "Overview")
	b.click(".top a", "Submit")
	b.click("main a", "sleep_task")
	b.sees("h1", "Submit sleep_task")

	// What the task does not take is said beside its field.
	b.enter("1000")
	b.click("button", "Submit")
	b.sees("#about-duration", "must be at most 300")
	b.enter("120")
	b.click("button", "Submit")
	b.at("/console/tasks/")
	b.sees(".notice", "Submitted")
	b.mark()
	b.sees(".head", "running")
	progress := func() float64 {
		return evaluate[float64](b, "document.querySelector('#progress progress')?.value ?? 0")
	}
	s.eventually(func() bool { return progress() > 0 }, "there is progress")
	first := progress()
	s.eventually(func() bool { return progress() > first }, "it moves")
	b.sameDocument()
	b.shot("task-running")

	b.click("#cancel", "Cancel")
	b.sees(".head", "cancelled")
	b.gone("#cancel")
	b.shot("task-cancelled")
}

func TestConsoleShowsTheAttemptsOfAFailingTask(t *testing.T) {
	t.Parallel()
	s, e := newStack(t), newEndpoint(t)
	s.worker(allowed)
	id := s.request(e.URL+"/ill", "?max_retries=2")
	b := newBrowser(t, s)
	b.open("/console/tasks/" + id)
	b.mark()
	b.sees(".timeline", "Attempt 1 failed")
	b.sees(".timeline", "Attempt 3 failed")
	b.sameDocument()
	require.Equal(t, 3, strings.Count(b.text(".timeline"), "out of paper"), "each says why")
	b.sees("#error", "503 Service Unavailable")
	b.sees("#input", e.URL+"/ill")
	b.shot("task-failed")

	e.well.Store(true)
	b.click("#retry", "Retry")
	b.sees(".timeline", "Run 2, attempt 1 succeeded")
	b.sees(".timeline", "Attempt 3 failed")
}

// Whoever knows nothing but the console finds a failed task by its error, edits
// its input and runs it again in under six clicks.
func TestConsoleNewcomerRunsAFailedTaskAgain(t *testing.T) {
	t.Parallel()
	s, e := newStack(t), newEndpoint(t)
	s.worker(allowed)
	for i := range 3 {
		s.request(fmt.Sprintf("%s/fine/%d", e.URL, i), "")
		s.await(s.request(fmt.Sprintf("%s/ill/%d", e.URL, i), "?max_retries=0"), "FAILURE")
	}
	id := s.request(e.URL+"/wrong", "")
	s.await(id, "FAILURE")
	b := newBrowser(t, s)
	b.open("/console")
	b.click("#failures", "Failed")
	b.at("/console/tasks?state=failed")
	b.sees("#live", "out of paper")
	b.click("#filter [name=q]", "")
	b.enter("no such CUSTOMER")
	b.seesNot("#live", "out of paper")
	b.click("#live tbody a", "http_request")
	b.sees("#error", "404 Not Found")
	b.click("#again", "Run again with edits")
	b.sees("h1", "Run http_request again")
	for b.focus() != "in-url" {
		b.press(kb.Tab)
	}
	b.enter(e.URL + "/right")
	b.click("#send", "Run again")
	b.sees(".head", "succeeded")
	require.Less(t, b.clicks, 6)
	require.Equal(t, "/console/tasks/"+id+"?did=again", b.path(), "it is the same task")
	s.eventually(func() bool { ids, _ := s.dead(); return len(ids) == 3 }, "its dead letter is gone")
}

func TestConsoleNarrowsTheListWhileOneTypes(t *testing.T) {
	t.Parallel()
	s, e := newStack(t), newEndpoint(t)
	s.worker(allowed)
	b := newBrowser(t, s)
	b.open("/console/tasks")
	b.sees(".empty", "No task yet")
	b.mark()
	s.request(e.URL+"/wrong/1", "")
	b.sees("#live", "no such customer")
	slow := s.sleep(120, "")
	b.sees("#live", "running")

	b.press("/")
	require.True(t, evaluate[bool](b, "document.activeElement.name === 'q'"), "/ leads to the filter")
	b.enter("customer")
	b.seesNot("#live tbody", "sleep_task")
	b.at("/console/tasks?q=customer")
	b.enter(slow)
	b.sees("#live tbody", "sleep_task")
	b.enter(slow[:8])
	b.sees("#live tbody", "sleep_task")
	b.enter("nothing says this")
	b.sees(".empty", "No such task")
	require.True(t, evaluate[bool](b, "document.activeElement.name === 'q'"), "one goes on typing")
	b.sameDocument()
	b.click("#clear", "Show all tasks")
	b.click(".tabs a", "Running")
	b.sees("#live tbody", "sleep_task")
	b.seesNot("#live tbody", "customer")
}

func TestConsoleGroupsAndRedrivesDeadLetters(t *testing.T) {
	t.Parallel()
	s, e := newStack(t), newEndpoint(t)
	s.worker(allowed)
	var ids []string
	for i := range 8 {
		ids = append(ids, s.request(fmt.Sprintf("%s/wrong/%d", e.URL, i), ""))
	}
	for i := range 2 {
		s.stranger(fmt.Sprintf("s%d", i))
	}
	s.eventually(func() bool { dead, _ := s.dead(); return len(dead) == 10 }, "ten dead letters")
	b := newBrowser(t, s)
	b.open("/console")
	b.click(".top a", "Dead letters")
	b.at("/console/dead/default")
	b.sees("#live", "10 dead letters in 2 groups")
	b.sees("#live", "8 × http_request")
	b.sees("#live", "2 × nobody.knows")
	b.shot("dead-groups")

	e.well.Store(true)
	b.click("button", "Send all 8 again")
	b.at("/console/dead/default/operations/")
	b.mark()
	b.sees("#progress", "8 of 8")
	b.sees("#state", "done")
	b.sameDocument()
	b.shot("dead-operation")
	for _, id := range ids {
		s.await(id, "SUCCESS")
	}
	b.click("#back", "To the dead letters")
	b.sees("#live", "2 dead letters in 1 group")
	b.click("#live a", "nobody.knows")
	b.click("#live a", "Look at and edit")
	b.sees("#error", "nobody.knows")
	b.sees("h1", "Run nobody.knows again")
	b.open("/console/dead/default")
	b.click("summary", "Discard")
	b.click("button", "Discard for good")
	b.sees("#state", "done")
	b.click("#back", "To the dead letters")
	b.sees(".empty", "No dead letters")
}

func TestConsolePausesAQueue(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker()
	b := newBrowser(t, s)
	b.open("/console/queues")
	b.click("#pause-default", "Pause")
	b.sees("#live", "paused")
	// Nobody else's page can do that for the one who looks at it.
	status, _ := s.do(http.MethodPost, "/console/queues/default/resume", nil, http.Header{"Sec-Fetch-Site": {"cross-site"}})
	require.Equal(t, http.StatusForbidden, status)
	w.await("paused queues changed")
	id := s.sleep(1, "")
	b.open("/console/tasks/" + id)
	b.sees(".head", "waiting")
	b.open("/console/queues")
	b.shot("queue-paused")
	b.click("#resume-default", "Resume")
	b.sees("#live", "running")
	s.await(id, "SUCCESS")
}

func TestConsoleSteersAWorkerAndPurgesAQueue(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker("LOVAGE_CONCURRENCY=2")
	id := s.sleep(300, "")
	s.await(id, "PROGRESS")
	b := newBrowser(t, s)
	b.open("/console/workers")
	b.click("#live tbody a", "")
	b.at("/console/workers/")
	b.sees("#live", "sleep_task")
	b.click("#live button", "What is it doing?")
	b.sees("#dump", "sleep")
	b.shot("worker")
	b.click("input[name=slots]", "")
	b.enter("1")
	b.click("#slots", "Set")
	b.sees(".notice", "slots")
	b.sees("#live", "1 of 1 busy")

	status, _ := s.do(http.MethodPost, "/v1/queues/default/pause", nil, nil)
	require.Equal(t, http.StatusOK, status)
	w.await("paused queues changed")
	waiting := s.sleep(1, "")
	b.open("/console/queues")
	b.click("a", "Purge")
	b.sees("#live", "1 task waits")
	b.click("#purge", "Revoke all that wait")
	b.sees(".notice", "Revoked")
	s.await(waiting, "REVOKED")

	b.open("/console/workers")
	b.click("#live tbody a", "")
	b.click("summary", "Stop")
	b.click("#stop", "Finish")
	b.sees("#live", "stopping")
	s.cancel(id)
	require.Equal(t, 0, w.exit())
}

// All of it can be done without a mouse, and one sees where one is.
func TestConsoleWorksWithTheKeyboard(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	b := newBrowser(t, s)
	b.open("/console")
	b.press(kb.Tab)
	require.Equal(t, "Skip to the content", evaluate[string](b, "document.activeElement.innerText"))
	b.press(kb.Enter)
	require.Equal(t, "main", b.focus())
	b.open("/console")
	b.tabTo("Submit")
	b.press(kb.Enter)
	b.at("/console/submit")
	b.tabTo("sleep_task")
	b.press(kb.Enter)
	b.sees("h1", "Submit sleep_task")
	s.eventually(func() bool { return b.focus() == "in-duration" }, "the first field has the focus")
	b.enter("120")
	b.press(kb.Enter)
	b.at("/console/tasks/")
	b.sees(".head", "running")
	b.tabTo("Cancel")
	// What changes around it does not take the focus away.
	was := b.text("#progress")
	s.eventually(func() bool { return b.text("#progress") != was }, "the page changes")
	require.Equal(t, "cancel", b.focus())
	b.press(kb.Enter)
	b.sees(".head", "cancelled")
}

// The banners come and go by themselves, and so does what could not be read.
func TestConsoleSaysWhatIsAway(t *testing.T) {
	t.Parallel()
	broker, redis := devstack.RabbitMQ(t), devstack.RedisServer(t)
	s := &stack{t: t, amqp: broker.URL(), redis: redis.URL()}
	g := s.gateway()
	s.worker()
	b := newBrowser(t, s)
	b.open("/console/tasks")
	b.sees(".empty", "No task yet")
	b.mark()
	require.NoError(t, broker.Stop(t.Context()))
	b.sees("#banner", "RabbitMQ does not answer")
	b.shot("rabbitmq-away")
	require.NoError(t, broker.Start(t.Context()))
	b.seesNot("#banner", "RabbitMQ")

	require.NoError(t, redis.Kill())
	b.sees("#banner", "Redis does not answer")
	b.sees("#live", "Redis does not answer")
	b.shot("redis-away")
	require.NoError(t, redis.Start(t.Context()))
	b.seesNot("#banner", "Redis")
	b.sees("#live", "No task yet")

	b.expect("ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|htmx:(sendError|afterRequest)")
	require.False(t, b.visible("#offline"))
	g.signal(syscall.SIGTERM)
	require.Equal(t, 0, g.exit())
	s.eventually(func() bool { return b.visible("#offline") }, "the gateway is missed")
	b.shot("gateway-away")
	address := strings.TrimPrefix(s.url, "http://")
	s.start("gateway", "LOVAGE_LISTEN="+address).await("gateway listens")
	s.eventually(func() bool { return !b.visible("#offline") }, "it is back")
	b.sameDocument()
}

// Every page fits a telephone, looks as it should when it is dark, and leads only
// to what is there.
func TestConsoleFitsEveryScreen(t *testing.T) {
	t.Parallel()
	s, e := newStack(t), newEndpoint(t)
	s.worker(allowed)
	failed, fine := s.request(e.URL+"/wrong", ""), s.request(e.URL+"/fine", "")
	s.await(fine, "SUCCESS")
	s.await(failed, "FAILURE")
	s.request(e.URL+"/ill", "")
	s.sleep(60, "")
	s.eventually(func() bool { dead, _ := s.dead(); return len(dead) == 1 }, "a dead letter")
	b := newBrowser(t, s)
	for name, path := range map[string]string{
		"overview": "/console", "tasks": "/console/tasks", "task": "/console/tasks/" + failed, "result": "/console/tasks/" + fine,
		"again": "/console/tasks/" + failed + "/again", "choose": "/console/submit", "submit": "/console/submit/http_request",
		"json": "/console/submit/http_request?as=json", "queues": "/console/queues", "dead": "/console/dead/default",
		"letter": "/console/dead/default/letters/" + failed, "workers": "/console/workers", "catalog": "/console/catalog",
		"audit": "/console/audit",
	} {
		for _, width := range []int64{1280, 360} {
			b.size(width, 800)
			b.open(path)
			b.sees("h1", "")
			require.LessOrEqual(t, evaluate[int64](b, "document.documentElement.scrollWidth"), width, path)
			for _, dark := range []bool{false, true} {
				b.dark(dark)
				b.shot(fmt.Sprintf("%s-%d-%v", name, width, map[bool]string{true: "dark", false: "light"}[dark]))
				require.Equal(t, dark, evaluate[bool](b, "matchMedia('(prefers-color-scheme: dark)').matches"))
			}
			background := evaluate[string](b, "getComputedStyle(document.body).backgroundColor")
			require.Equal(t, "rgb(19, 22, 20)", background, "it is dark")
		}
		for _, link := range evaluate[[]string](b, "[...new Set([...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href')))]") {
			if strings.HasPrefix(link, "#") {
				continue
			}
			status, _ := s.do(http.MethodGet, link, nil, nil)
			require.Equal(t, http.StatusOK, status, "%s on %s", link, path)
		}
	}
}

// The plots are drawn from what the workers say of themselves.
func TestConsoleDrawsWhatHappens(t *testing.T) {
	t.Parallel()
	s, e := newStack(t), newEndpoint(t)
	s.worker(allowed)
	b := newBrowser(t, s)
	b.open("/console")
	b.mark()
	b.sees("#failures", "–")
	stop := time.Now().Add(patience)
	for time.Now().Before(stop) && !strings.Contains(b.text("#failures .value"), "50 %") {
		s.await(s.request(e.URL+"/fine", ""), "SUCCESS")
		s.await(s.request(e.URL+"/wrong", ""), "FAILURE")
	}
	b.sees("#failures .value", "%")
	b.seesNot("#latency .value", "–")
	s.eventually(func() bool {
		return evaluate[bool](b, "!!document.querySelector('#throughput .line')?.getAttribute('d').includes('L')")
	}, "there is a line")
	b.sees("#live", "no such customer")
	b.sameDocument()
}

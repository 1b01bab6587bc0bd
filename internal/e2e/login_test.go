package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/client"
	"github.com/lovage-mq/lovage/pkg/worker"
)

// newClosedStack is a stack that asks for keys, with one that may do everything
// and one that may look.
func newClosedStack(t *testing.T) (s *stack, admin, reader string) {
	t.Helper()
	s = newStackWithout(t)
	keys := "LOVAGE_API_KEYS_FILE=" + filepath.Join(t.TempDir(), "keys")
	s.lovageEnv = []string{keys}
	admin, reader = s.newKey("ada", "--scope", "admin"), s.newKey("rita", "--scope", "read")
	s.header = http.Header{"Authorization": {"Bearer " + admin}}
	s.gateway(keys)
	return s, admin, reader
}

// logIn shows a key at the login.
func (b *browser) logIn(key string) {
	b.t.Helper()
	b.at("/login")
	b.until(func() (bool, string) { return b.focus() == "key", "the field of the key has no focus" })
	b.enter(key)
	b.press(kb.Enter)
}

// audited waits until somebody's act is in the audit.
func (s *stack) audited(who, action, target, outcome string) {
	s.t.Helper()
	s.eventually(func() bool {
		var page client.AuditPage
		require.Equal(s.t, http.StatusOK, s.get("/v1/audit", &page))
		for _, e := range page.Entries {
			if e.Who == who && e.Action == action && e.Target == target && e.Outcome == outcome {
				return true
			}
		}
		return false
	}, "the audit says that %s asked for %s of %s: %s", who, action, target, outcome)
}

// Whoever has no session is sent to the login and comes back to the page they
// wanted; what they may do is what their key may, and is audited by its name.
func TestConsoleAsksForAKey(t *testing.T) {
	t.Parallel()
	s, admin, reader := newClosedStack(t)
	s.worker()
	b := newBrowser(t, s)
	b.expect("(?i)status (of|error code) 40[13]") // of what is refused
	b.open("/console/queues?a=b")
	b.at("/login?next=%2Fconsole%2Fqueues%3Fa%3Db")
	b.logIn("lovage_wrong")
	b.sees(".problem", "There is no such key.")
	b.logIn(admin)
	b.at("/console/queues?a=b")
	b.sees(".visitor", "ada")
	b.click("#pause-default", "Pause")
	b.sees(".notice", "Paused")
	b.sees("#live", "paused")
	s.audited("ada", "pause-queue", "/v1/queues/default/pause", "ok")
	b.shot("logged-in")

	b.click("#logout", "Log out")
	b.at("/login")
	s.audited("ada", "logout", "ada", "ok")
	b.open("/console")
	b.logIn(reader)
	b.at("/console")
	b.sees(".visitor", "rita")
	b.click(".top a", "Queues")
	b.sees("#live", "paused")
	// What the key is not for is not offered, and refused to who does it all the same.
	require.Empty(t, b.text("#resume-default"))
	require.True(t, evaluate[bool](b, `(() => {
		const form = document.createElement("form");
		form.method = "post";
		form.action = "/console/queues/default/resume";
		document.body.append(form);
		form.submit();
		return true;
	})()`))
	// That stays when the page asks for the queues again.
	b.sees("main > .trouble", "Your key is not for this")
	b.sees("main > .trouble", "scope admin")
	b.sees("#live", "paused")
	s.audited("rita", "resume-queue", "/v1/queues/default/resume", "forbidden")
	b.shot("not-allowed")

	// A session that ends takes an open page to the login by itself, and back.
	b.open("/console/queues")
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, network.ClearBrowserCookies, cdp.Empty{})
		return err
	}))
	b.at("/login?next=%2Fconsole%2Fqueues")
	b.logIn(reader)
	b.at("/console/queues")
}

// A gateway that others may reach without a key says so, on a page like the rest.
func TestConsoleSaysThatNobodyHasToShowAKey(t *testing.T) {
	t.Parallel()
	s := newStack(t, "LOVAGE_INSECURE_NO_AUTH=true")
	b := newBrowser(t, s)
	b.open("/console")
	b.sees(".unguarded", "Nobody has to show a key here")
	b.click(".top a", "Queues")
	b.sees("h1", "Queues")
	b.sees(".unguarded", "LOVAGE_INSECURE_NO_AUTH")
	require.Empty(t, b.text(".visitor"))
	b.shot("unguarded")
}

// The audit is a page for those who may read it, and no link leads others there.
func TestConsoleShowsTheAudit(t *testing.T) {
	t.Parallel()
	s, admin, reader := newClosedStack(t)
	s.worker()
	b := newBrowser(t, s)
	b.expect("status of 403")
	b.open("/console")
	b.logIn(admin)
	b.click(".top a", "Audit")
	b.at("/console/audit")
	b.sees("#live", "login")
	b.mark()
	status, _ := s.do(http.MethodPost, "/v1/queues/default/pause", nil, nil)
	require.Equal(t, http.StatusOK, status)
	b.sees("#live", "pause-queue")
	b.sees("#live", "/v1/queues/default/pause")
	b.sameDocument()
	for _, width := range []int64{1280, 360} {
		b.size(width, 800)
		require.LessOrEqual(t, evaluate[int64](b, "document.documentElement.scrollWidth"), width)
		b.shot(fmt.Sprintf("audit-%d", width))
	}
	b.size(1280, 800)

	b.click("#logout", "Log out")
	b.logIn(reader)
	b.at("/console")
	b.sees(".visitor", "rita")
	require.NotContains(t, b.text(".top"), "Audit")
	b.open("/console/audit")
	b.sees(".trouble", "scope admin")
	require.NotContains(t, b.text("main"), "pause-queue")
}

// What a task logs is on its page, as it comes.
func TestConsoleShowsTheLogOfATask(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := worker.New(worker.Options{AMQPURL: s.amqp, RedisURL: s.redis, Queue: "talk"})
	goOn := make(chan struct{})
	worker.Handle(w, "talk", func(ctx context.Context, _ struct{}) (any, error) {
		worker.Logger(ctx).Info("begins <b>", zap.Int("size", 3))
		<-goOn
		worker.Logger(ctx).Warn("ends")
		return nil, nil
	})
	s.inProcess(w)
	s.eventually(func() bool { return s.lovage("submit", "talk", "--id", "t1").code == 0 }, "the task is known")
	b := newBrowser(t, s)
	b.open("/console/tasks/t1")
	b.mark()
	b.sees("#log", `begins <b> {"size":3}`)
	close(goOn)
	b.sees(".head", "succeeded")
	b.sees("#log .warn", "warn")
	b.sees("#log", "ends")
	b.sameDocument()
	b.shot("task-log")
}

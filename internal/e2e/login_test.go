package e2e_test

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
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
	b.click("#resume-default", "Resume")
	// It stays when the page asks for the queues again.
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

package auth

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/access"
)

// fakeStore is a store of sessions in memory.
type fakeStore struct {
	mu       sync.Mutex
	sessions map[string]access.Session
	asked    int
	err      error
}

func newStore() *fakeStore { return &fakeStore{sessions: map[string]access.Session{}} }

func (s *fakeStore) PutSession(_ context.Context, hash string, session access.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.sessions[hash] = session
	}
	return s.err
}

func (s *fakeStore) GetSession(_ context.Context, hash string) (access.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.err != nil {
		return access.Session{}, s.err
	}
	session, ok := s.sessions[hash]
	if !ok {
		return session, access.ErrNoSession
	}
	return session, nil
}

func (s *fakeStore) DropSession(_ context.Context, hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		delete(s.sessions, hash)
	}
	return s.err
}

// send asks the pages of the login.
func send(t *testing.T, g *Gate, method, target, form string, cookies ...*http.Cookie) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	g.Pages().ServeHTTP(w, r)
	return w.Result()
}

// login returns the cookie of a session.
func login(t *testing.T, g *Gate, base, token string) *http.Cookie {
	t.Helper()
	res := send(t, g, http.MethodPost, base+"/login", url.Values{"key": {" " + token + "\n"}, "next": {"/console/tasks?x=1"}}.Encode())
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusSeeOther, res.StatusCode)
	require.Equal(t, "/console/tasks?x=1", res.Header.Get("Location"))
	require.Len(t, res.Cookies(), 1)
	return res.Cookies()[0]
}

// whose asks who shows a cookie.
func whose(t *testing.T, g *Gate, base string, cookies ...*http.Cookie) (*access.Grant, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, base+"/console", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return g.Identify(r)
}

func TestALoginIsASessionUntilItIsEnded(t *testing.T) {
	t.Parallel()
	store := newStore()
	g, key, token := newGate(t, func(o *Options) { o.Sessions = store })
	const base = "http://127.0.0.1:8080"
	c := login(t, g, base, token)
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, c.SameSite)
	require.False(t, c.Secure, "there is no TLS on this very machine")
	require.WithinDuration(t, time.Now().Add(12*time.Hour), c.Expires, time.Minute)
	require.NotContains(t, c.Value, token)
	require.NotContains(t, store.sessions, c.Value, "the store knows only its hash")
	grant, err := whose(t, g, base, c)
	require.NoError(t, err)
	require.Equal(t, key.ID, grant.KeyID)

	again := login(t, g, base, token)
	require.NotEqual(t, c.Value, again.Value, "each login has a session of its own")
	elsewhere, _, _ := newGate(t, func(o *Options) { o.Keys, o.Sessions = g.opts.Keys, store })
	_, err = whose(t, elsewhere, base, c)
	require.NoError(t, err, "other gateways know it")
	res := send(t, g, http.MethodPost, base+"/logout", "", c)
	require.NoError(t, res.Body.Close())
	require.Equal(t, "/login", res.Header.Get("Location"))
	require.Negative(t, res.Cookies()[0].MaxAge)
	_, err = whose(t, g, base, c)
	require.Error(t, err, "whatever the browser has kept")
	_, err = whose(t, g, base, again)
	require.NoError(t, err)
	elsewhere.sessions.copies[hashOf(c.Value)] = copied{} // as old as can be
	_, err = whose(t, elsewhere, base, c)
	require.Error(t, err, "a while later there as well")
	res = send(t, g, http.MethodGet, base+"/logout", "")
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, res.StatusCode, "no link logs anybody out")
}

func TestOffLoopbackACookieIsForTLSOnly(t *testing.T) {
	t.Parallel()
	g, _, token := newGate(t)
	for _, base := range []string{"http://lovage.example.com", "https://lovage.example.com", "https://127.0.0.1", "http://192.0.2.1:8080"} {
		c := login(t, g, base, token)
		require.True(t, c.Secure, base)
		require.True(t, strings.HasPrefix(c.Name, "__Host-"), base)
		require.Equal(t, "/", c.Path)
		require.Empty(t, c.Domain)
		_, err := whose(t, g, base, c)
		require.NoError(t, err)
		_, err = whose(t, g, base, &http.Cookie{Name: plainCookie, Value: c.Value})
		require.Error(t, err, "one that somebody could set without TLS is none")
		_, err = whose(t, g, base, c, c)
		require.Error(t, err, "two are one too many")
	}
	for _, base := range []string{"http://localhost:8080", "http://[::1]:8080", "http://127.0.0.1"} {
		require.False(t, login(t, g, base, token).Secure, base)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost", nil)
	r.TLS = &tls.ConnectionState{}
	require.True(t, secure(r))
}

func TestASessionEndsWithItsKeyAndItsTime(t *testing.T) {
	t.Parallel()
	file, ring, key, token := newRing(t)
	g, _, _ := newGate(t, func(o *Options) { o.Keys = ring })
	const base = "http://localhost"
	c := login(t, g, base, token)
	now := time.Now()
	_, err := g.sessions.find(t.Context(), c.Value, now.Add(13*time.Hour))
	require.ErrorIs(t, err, access.ErrNoSession)
	key.RevokedAt = now
	require.NoError(t, file.Save(t.Context(), key))
	require.NoError(t, ring.Refresh(t.Context()))
	_, err = whose(t, g, base, c)
	require.ErrorIs(t, err, access.ErrRevoked)
	for _, value := range []string{"", "x", strings.Repeat("x", 43), strings.Repeat("x", 5000)} {
		_, err = whose(t, g, base, &http.Cookie{Name: plainCookie, Value: value})
		require.Error(t, err)
	}
}

func TestSessionsGoOnWhileTheirStoreIsAway(t *testing.T) {
	t.Parallel()
	store := newStore()
	g, _, token := newGate(t, func(o *Options) { o.Sessions = store })
	const base = "http://localhost"
	before := login(t, g, base, token)
	store.err = access.ErrUnavailable
	during := login(t, g, base, token)
	for _, c := range []*http.Cookie{before, during} {
		_, err := g.sessions.find(t.Context(), c.Value, time.Now().Add(time.Hour))
		require.NoError(t, err)
	}
	_, err := whose(t, g, base, &http.Cookie{Name: plainCookie, Value: strings.Repeat("x", 43)})
	require.ErrorIs(t, err, access.ErrUnavailable, "nobody can tell whose it is")

	store.err = nil
	store.asked = 0
	for range 100 {
		_, err := whose(t, g, base, before)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, store.asked, 1, "it is not asked each time")
}

func TestTheMemoryOfSessionsIsBounded(t *testing.T) {
	t.Parallel()
	s := sessions{store: newStore(), life: time.Hour}
	now := time.Now()
	for range mostSessions + 10 {
		s.begin(t.Context(), "id", now)
	}
	require.Len(t, s.copies, mostSessions)
	token, _ := s.begin(t.Context(), "id", now)
	_, err := s.find(t.Context(), token, now)
	require.NoError(t, err, "it is looked up instead")
	_, _ = s.begin(t.Context(), "id", now.Add(2*time.Hour))
	require.Len(t, s.copies, 1, "those that have ended make room")
}

func TestWhoGuessesAtTheLoginIsLockedOut(t *testing.T) {
	t.Parallel()
	g, key, token := newGate(t)
	try := func(token string) (status int, wait string) {
		res := send(t, g, http.MethodPost, "http://localhost/login", url.Values{"key": {token}}.Encode())
		require.NoError(t, res.Body.Close())
		require.Equal(t, res.StatusCode == http.StatusSeeOther, len(res.Cookies()) == 1)
		return res.StatusCode, res.Header.Get("Retry-After")
	}
	for range tries {
		status, _ := try("guess")
		require.Equal(t, http.StatusUnauthorized, status)
	}
	status, wait := try("guess")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, "1", wait)
	status, _ = try(token)
	require.Equal(t, http.StatusSeeOther, status, "an owner of a key who shares the address with one who knows none")
	status, _ = try("lovage_" + key.ID + "_" + strings.Repeat("a", 52))
	require.Equal(t, http.StatusUnauthorized, status)
	now := time.Now()
	for range 20 { // as if they had come over a while
		now = now.Add(g.logins.failed("192.0.2.1 "+key.ID, now))
	}
	status, _ = try(token)
	require.Equal(t, http.StatusTooManyRequests, status, "this very key is guessed at from this address")
}

func TestTheLoginPage(t *testing.T) {
	t.Parallel()
	g, _, token := newGate(t)
	res := send(t, g, http.MethodGet, `http://localhost/login?next=/console/x"><script>`, "")
	body := read(t, res)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.NotContains(t, body, "<script")
	require.Contains(t, body, `method="post"`)
	policy := res.Header.Get("Content-Security-Policy")
	for _, rule := range []string{"default-src 'none'", "style-src 'sha256-", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		require.Contains(t, policy, rule)
	}
	require.NotContains(t, policy, "unsafe")
	res = send(t, g, http.MethodPost, "http://localhost/login", url.Values{"key": {"<b>wrong"}}.Encode())
	body = read(t, res)
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	require.NotContains(t, body, "wrong", "what was typed is not shown")
	require.Contains(t, body, "There is no such key.")
	res = send(t, g, http.MethodPost, "http://localhost/login", "key="+strings.Repeat("x", 1<<20))
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.NoError(t, res.Body.Close())
	c := login(t, g, "http://localhost", token)
	res = send(t, g, http.MethodGet, "http://localhost/login?next=%2Fdocs", "", c)
	require.Equal(t, "/docs", res.Header.Get("Location"), "who is in goes on")
	require.NoError(t, res.Body.Close())
}

func TestAKeyThatIsNotForLookingIsRefusedAtTheLogin(t *testing.T) {
	t.Parallel()
	_, ring, _, token := newRing(t, access.Submit)
	g, _, _ := newGate(t, func(o *Options) { o.Keys = ring })
	res := send(t, g, http.MethodPost, "http://localhost/login", url.Values{"key": {token}}.Encode())
	require.Contains(t, read(t, res), "lacks the scope read")
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.Empty(t, res.Cookies())
}

// The console would show nothing to whoever is only half let in.
func TestAKeyForSomeTasksIsRefusedOnTheWayToTheConsole(t *testing.T) {
	t.Parallel()
	file, ring, _, _ := newRing(t)
	key, token, err := access.New(access.Key{Name: "shop", Scopes: []access.Scope{access.Read}, Tasks: []access.Pattern{"mail.*"}})
	require.NoError(t, err)
	require.NoError(t, file.Save(t.Context(), key))
	require.NoError(t, ring.Refresh(t.Context()))
	g, _, _ := newGate(t, func(o *Options) { o.Keys = ring })
	res := send(t, g, http.MethodPost, "http://localhost/login", url.Values{"key": {token}}.Encode())
	require.Contains(t, read(t, res), "some tasks or queues only")
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.Empty(t, res.Cookies())
	res = send(t, g, http.MethodPost, "http://localhost/login", url.Values{"key": {token}, "next": {"/docs"}}.Encode())
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusSeeOther, res.StatusCode)
}

func TestALoginLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"/", "/console", "/docs", "/console/tasks?state=FAILURE&next=https://evil.example", "/console/a%2Fb"} {
		require.Equal(t, good, localTarget(good))
	}
	for _, bad := range []string{
		"", "console", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example/", "javascript:alert(1)",
		"/\tx", "/\n/evil.example", "https:evil.example", "//user@evil.example", "/%zz", "/login", "/login?next=/login", "/logout", "/%2F/evil.example/..", "/\x00",
	} {
		require.Equal(t, home, localTarget(bad), bad)
	}
}

func FuzzLocalTarget(f *testing.F) {
	f.Add("/console?x=1")
	f.Add("//evil.example")
	f.Add("/\\evil.example")
	f.Fuzz(func(t *testing.T, text string) {
		got := localTarget(text)
		base, err := url.Parse("https://here.example/login")
		require.NoError(t, err)
		to, err := base.Parse(got)
		require.NoError(t, err, got)
		require.Equal(t, "here.example", to.Host)
		require.Equal(t, "https", to.Scheme)
		require.NotContains(t, got, "\\")
		require.False(t, strings.HasPrefix(got, "//"))
	})
}

package auth

import (
	"crypto/sha256"
	_ "embed" // holds the page
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

const (
	// home is where one is after a login that was not on the way somewhere.
	home = "/console"
	// longestForm bounds the form of the login.
	longestForm = 4 << 10
)

//go:embed login.html
var loginHTML string

// loginView is what the page shows.
type loginView struct{ Next, Problem string }

// Pages returns the login, at [api.LoginPath] and [api.LogoutPath]. What is in front
// of the API has to be in front of it: that is where requests of other sites are
// refused.
func (g *Gate) Pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.LoginPath, g.showLogin)
	mux.HandleFunc("POST "+api.LoginPath, g.login)
	mux.HandleFunc("POST "+api.LogoutPath, g.logout)
	return mux
}

func (g *Gate) showLogin(w http.ResponseWriter, r *http.Request) {
	next := localTarget(r.URL.Query().Get("next"))
	if _, err := g.Identify(r); err == nil {
		redirect(w, next)
		return
	}
	g.page(w, http.StatusOK, loginView{Next: next})
}

// login looks at a key and makes a session of it.
func (g *Gate) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, longestForm)
	if err := r.ParseForm(); err != nil {
		g.page(w, http.StatusBadRequest, loginView{Next: home, Problem: "The form could not be read."})
		return
	}
	view := loginView{Next: localTarget(r.PostForm.Get("next"))}
	now := time.Now()
	token := strings.TrimSpace(r.PostForm.Get("key"))
	// Whoever knows the name of a key can lock out that one, from where he is:
	// behind a proxy all come from one address.
	from := origin(r)
	if id, known := g.opts.Keys.Known(token); known {
		from += " " + id
	}
	wait := g.logins.locked(from, now)
	var grant *access.Grant
	var err error
	if wait == 0 {
		if grant, err = g.opts.Keys.Check(token, now); errors.Is(err, access.ErrUnknown) {
			wait = g.logins.failed(from, now)
		}
	}
	who := "unknown"
	if grant != nil {
		who = grant.Who
		r = r.WithContext(access.With(r.Context(), grant))
	}
	api.Steering(r, "login", who)
	switch {
	case wait > 0:
		err = &api.LockedError{RetryAfter: wait}
	case err == nil && !grant.Has(access.Read):
		err = api.ErrNoScope
	case err == nil && grant.Restricted() && strings.HasPrefix(view.Next, home):
		err = api.ErrRestricted
	}
	if err != nil {
		view.Problem = complaint(err)
		g.opts.Log.Warn("login refused", zap.String("address", origin(r)), zap.Error(err))
		status, after := api.Refused(r, err)
		if after > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
		}
		g.page(w, status, view)
		return
	}
	g.logins.forget(from)
	session, ends := g.sessions.begin(r.Context(), grant.KeyID, now)
	http.SetCookie(w, cookie(r, session, ends))
	redirect(w, view.Next)
}

func complaint(err error) string {
	if locked, ok := errors.AsType[*api.LockedError](err); ok {
		return "Too many wrong keys. Try again in " + max(time.Second, locked.RetryAfter.Round(time.Second)).String() + "."
	}
	for known, text := range map[error]string{
		access.ErrExpired: "This key has expired.", access.ErrRevoked: "This key was revoked.",
		access.ErrNotLoaded: "The keys are not known yet. Try again in a moment.",
		api.ErrNoScope:      "This key is not for looking: it lacks the scope read.",
		api.ErrRestricted:   "This key is for some tasks or queues only, and the console shows all of them.",
	} {
		if errors.Is(err, known) {
			return text
		}
	}
	return "There is no such key."
}

// logout ends the session, in the browser in any case.
func (g *Gate) logout(w http.ResponseWriter, r *http.Request) {
	who := ""
	if grant, err := g.session(r); err == nil {
		who, r = grant.Who, r.WithContext(access.With(r.Context(), grant))
	}
	api.Steering(r, "logout", who)
	if token := shown(r); token != "" {
		if err := g.sessions.end(r.Context(), token); err != nil {
			g.opts.Log.Warn("session ended in this gateway only", zap.Error(err))
		}
	}
	http.SetCookie(w, cookie(r, "", time.Time{}))
	redirect(w, api.LoginPath)
}

func (g *Gate) page(w http.ResponseWriter, status int, v loginView) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", g.policy)
	w.WriteHeader(status)
	_ = g.form.Execute(w, v) // a browser that is gone sees nothing
}

// pagePolicy lets the page have its own style, and send its form here.
func pagePolicy() string {
	_, rest, _ := strings.Cut(loginHTML, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}

func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// localTarget is where to go after the login: a path of this server, and home for
// anything else, which would be somebody's trap.
func localTarget(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || !strings.HasPrefix(text, "/") ||
		strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\t\r\n") || strings.ContainsFunc(text, control) ||
		strings.HasPrefix(u.Path, "//") || strings.HasPrefix(u.Path, api.LoginPath) || strings.HasPrefix(u.Path, api.LogoutPath) {
		return home
	}
	return text
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// Package auth finds out who sends a request: by an API key, or by the session
// of a browser that has shown one.
package auth

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	template "github.com/DataDog/datadog-agent/pkg/template/html"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

// Keys knows the API keys. [access.Keyring] does.
type Keys interface {
	Check(token string, now time.Time) (*access.Grant, error)
	Grant(id string, now time.Time) (*access.Grant, error)
	Known(token string) (id string, known bool)
}

// Options configure a [Gate]. Keys and Sessions are required.
type Options struct {
	Keys     Keys
	Sessions SessionStore
	// SessionLife is how long a session lasts, 12 h by default.
	SessionLife time.Duration
	Log         *zap.Logger
}

// Gate is an [api.Gate], and the login of browsers. Use [New].
type Gate struct {
	opts     Options
	sessions sessions
	// wrong are the keys of programs, logins those of people.
	wrong, logins lockout
	form          *template.Template
	policy        string
}

// New returns a gate and starts nothing.
func New(o Options) *Gate {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Gate{
		opts: o, sessions: sessions{store: o.Sessions, life: cmp.Or(o.SessionLife, 12*time.Hour)},
		form: template.Must(template.New("login").Parse(loginHTML)), policy: pagePolicy(),
	}
}

// Identify implements [api.Gate]. A right key is let in whatever has come from
// its address before. Who sends the header Authorization is not looked at for a
// session.
func (g *Gate) Identify(r *http.Request) (*access.Grant, error) {
	if r.Header.Get("Authorization") == "" {
		return g.session(r)
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, api.ErrNoCredentials
	}
	return g.check(r, strings.TrimSpace(token))
}

// session returns what the key may do now that a browser has shown before.
func (g *Gate) session(r *http.Request) (*access.Grant, error) {
	token := shown(r)
	if token == "" {
		return nil, api.ErrNoCredentials
	}
	now := time.Now()
	s, err := g.sessions.find(r.Context(), token, now)
	if errors.Is(err, access.ErrNoSession) {
		return nil, api.ErrNoCredentials
	}
	if err != nil {
		return nil, err
	}
	return g.opts.Keys.Grant(s.KeyID, now)
}

// check looks a key up, and counts what is wrong.
func (g *Gate) check(r *http.Request, token string) (*access.Grant, error) {
	now := time.Now()
	grant, err := g.opts.Keys.Check(token, now)
	if err != access.ErrUnknown { //nolint:errorlint // it comes as it is
		return grant, err
	}
	if wait := g.wrong.failed(origin(r), now); wait > 0 {
		return nil, &api.LockedError{RetryAfter: wait}
	}
	return nil, err
}

// origin is the address that a request comes from, as far as we can see it: that
// of a proxy, if there is one. Of IPv6 it is the network, which one machine has
// all of.
func origin(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}

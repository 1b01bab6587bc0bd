// Package auth finds out who sends a request: by an API key, or by the session
// of a browser that has shown one.
package auth

import (
	"net"
	"net/http"
	"strings"
	"time"

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

// Options configure a [Gate]. Keys is required.
type Options struct {
	Keys Keys
	Log  *zap.Logger
}

// Gate is an [api.Gate]. Use [New].
type Gate struct {
	opts  Options
	wrong lockout
}

// New returns a gate and starts nothing.
func New(o Options) *Gate {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Gate{opts: o}
}

// Identify implements [api.Gate]. A right key is let in whatever has come from
// its address before.
func (g *Gate) Identify(r *http.Request) (*access.Grant, error) {
	token, err := bearer(r)
	if err != nil {
		return nil, err
	}
	return g.check(r, token)
}

// bearer returns the key of the header Authorization.
func bearer(r *http.Request) (string, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", api.ErrNoCredentials
	}
	return strings.TrimSpace(token), nil
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

package outbound

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	maxRedirects = 5
	// maxResponseHeader bounds what a server may say before its body.
	maxResponseHeader = 64 << 10
	idleTimeout       = 30 * time.Second
)

// NewClient returns a client that calls what is allowed, with at most five
// redirects to what is allowed as well: no proxy from the environment, which
// would dial in our place, and no cookies. It has no timeout of its own. The
// resolver looks up host names, the system's if it is nil.
func NewClient(allow AllowList, resolver *net.Resolver) *http.Client {
	g := &guard{allow: allow, resolver: resolver}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            g.dial,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           64,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        idleTimeout,
			TLSHandshakeTimeout:    dialTimeout,
			ExpectContinueTimeout:  time.Second,
			MaxResponseHeaderBytes: maxResponseHeader,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error { return checkRedirect(allow, req, via) },
	}
}

// checkRedirect looks at each hop as at the first URL, and keeps the caller's
// headers from a host that the caller did not name.
func checkRedirect(allow AllowList, req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return Refuse("more than %d redirects", maxRedirects)
	}
	if err := allow.checkURL(req.URL); err != nil {
		return err
	}
	// net/http tells the next host where we come from, query included.
	req.Header.Del("Referer")
	hops := append(slices.Clone(via[1:]), req)
	if slices.ContainsFunc(hops, func(hop *http.Request) bool { return !sameSite(via[0].URL, hop.URL) }) {
		keepHeaders(req.Header, "Accept", "Content-Type", "User-Agent", "Idempotency-Key", "Traceparent")
	}
	return nil
}

// sameSite reports whether next is the same server as first, or the same one
// with encryption.
func sameSite(first, next *url.URL) bool {
	if first.Hostname() != next.Hostname() {
		return false
	}
	if first.Scheme == next.Scheme {
		return portOf(first) == portOf(next)
	}
	return next.Scheme == "https" && portOf(first) == "80" && portOf(next) == "443"
}

func keepHeaders(header http.Header, names ...string) {
	for name := range header {
		if !slices.Contains(names, name) {
			delete(header, name)
		}
	}
}

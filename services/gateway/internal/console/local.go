package console

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
)

// local brings requests to a handler of this process.
type local struct{ handler http.Handler }

// RoundTrip answers with what the handler has written. The request bears the
// credentials and the address of whoever asked for the page, and goes to the host
// that they asked: a session is a cookie of that.
func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.Host = r.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	if v, ok := r.Context().Value(visitorKey{}).(*http.Request); ok {
		in.Host, in.RemoteAddr, in.TLS = v.Host, v.RemoteAddr, v.TLS
		for _, name := range []string{"Authorization", "Cookie", "User-Agent", "X-Request-Id", "X-Forwarded-For"} {
			if values := v.Header.Values(name); len(values) > 0 {
				in.Header[name] = values
			}
		}
	}
	answer := &buffer{header: http.Header{}}
	l.handler.ServeHTTP(answer, in)
	return &http.Response{
		StatusCode: max(answer.status, http.StatusOK), Header: answer.sent(), Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(&answer.body), ContentLength: int64(answer.body.Len()),
	}, nil
}

type visitorKey struct{}

// withVisitor remembers who asked for a page.
func withVisitor(ctx context.Context, r *http.Request) context.Context {
	return context.WithValue(ctx, visitorKey{}, r)
}

// buffer keeps an answer.
type buffer struct {
	header, written http.Header
	status          int
	body            bytes.Buffer
}

// Header is what the handler may still change.
func (b *buffer) Header() http.Header { return b.header }

// WriteHeader fixes the status and the header.
func (b *buffer) WriteHeader(status int) {
	if b.status == 0 && status >= http.StatusOK {
		b.status, b.written = status, maps.Clone(b.header)
	}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	return b.body.Write(p)
}

func (b *buffer) sent() http.Header {
	b.WriteHeader(http.StatusOK)
	return b.written
}

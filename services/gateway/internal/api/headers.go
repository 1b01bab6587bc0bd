package api

import (
	"fmt"
	"net/http"
)

// longestURL bounds path and query: an id, or the name of a task, with every
// byte escaped, and a cursor.
const longestURL = 8 << 10

// singleHeaders refuses a request that gives a header twice of which there can
// be only one: whoever is between us and the client might read the other one.
func singleHeaders(next http.Handler) http.Handler {
	single := []string{
		"Authorization", "Content-Encoding", "Content-Length", "Content-Type", "Host", "Idempotency-Key",
		"Origin", "Request-Timeout", "Sec-Fetch-Site", "Traceparent", "X-Request-Id",
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.RequestURI) > longestURL {
			newProblem(slugLongURL, fmt.Sprintf("path and query may have %d bytes together", longestURL)).write(w, r)
			return
		}
		for _, name := range single {
			if n := len(r.Header[name]); n > 1 {
				repeatedHeader(name, fmt.Sprintf("given %d times, may be given once", n)).write(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func repeatedHeader(name, detail string) *problem {
	p := newProblem(slugRepeatedHeader, name+": "+detail)
	p.Errors = []fieldError{{Header: name, Detail: detail}}
	return p
}

package api

import (
	"net"
	"net/http"
	"strings"
)

// allowHosts answers only to known names. A web page whose own name was made to
// point at this server (DNS rebinding) would otherwise count as our origin.
//
// The health probes are open: a kubelet addresses them by the address of the
// pod, and they tell nothing. So does Prometheus the metrics.
func allowHosts(more []string, next http.Handler) http.Handler {
	allowed := map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}
	for _, h := range more {
		if name := hostName(h); name != "" {
			allowed[name] = true
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allowed[hostName(r.Host)] || r.URL.Path == routeLive || r.URL.Path == routeReady || r.URL.Path == RouteMetrics {
			next.ServeHTTP(w, r)
			return
		}
		newProblem(slugMisdirected, "address this server as localhost, or name its host in LOVAGE_ALLOWED_HOSTS").write(w, r)
	})
}

// hostName strips port, brackets and case.
func hostName(host string) string {
	host = strings.ToLower(strings.TrimSpace(host))
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

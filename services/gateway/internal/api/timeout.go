package api

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// timeoutHeader says how long the client gives RabbitMQ to confirm its
	// task. No header for that is registered: gRPC, Connect and Envoy have one
	// each with their own name in it, and a preference such as "Prefer: wait"
	// may be ignored, which a deadline must not be. Its value is in seconds as
	// in Retry-After and everywhere else in this API, and may have a fraction.
	timeoutHeader = "Request-Timeout"
	// shortestTimeout is about what a healthy broker needs.
	shortestTimeout = 10 * time.Millisecond
)

// publishTimeout returns how long a submission with this header waits for the
// broker's confirm. The error is a [*problem] that names the limits.
func (a *API) publishTimeout(h http.Header) (time.Duration, error) {
	text := h.Get(timeoutHeader)
	if text == "" {
		return a.opts.PublishTimeout, nil
	}
	longest := a.opts.MaxPublishTimeout
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !plainNumber(text) || seconds < shortestTimeout.Seconds() || seconds > longest.Seconds() {
		return 0, invalid(slugParameters, []fieldError{{Header: timeoutHeader, Detail: fmt.Sprintf(
			"must be a number of seconds from %v to %v (LOVAGE_MAX_PUBLISH_TIMEOUT); without the header it is %v",
			shortestTimeout.Seconds(), longest.Seconds(), a.opts.PublishTimeout.Seconds())}})
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

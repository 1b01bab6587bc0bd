package tasks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/worker"
)

const (
	// maxRetryAfter bounds how long a service can put a task off.
	maxRetryAfter = time.Hour
	// maxExcerpt is how much of a failed answer gets into the error.
	maxExcerpt = 512
)

// callError decides about a call without a whole answer: tried again, unless it
// was refused.
func callError(ctx context.Context, req *http.Request, err error) error {
	// The text of a url.Error holds the URL, and its query may hold a secret.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	call := describeCall(req)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: interrupted: %w", call, ctx.Err())
	}
	if refused, ok := errors.AsType[*outbound.Refusal](err); ok {
		// Without what net wraps around it, which names the address.
		return worker.Permanent(fmt.Errorf("%s: %w", call, refused))
	}
	if req.Context().Err() != nil {
		return fmt.Errorf("%s: no whole answer in time", call)
	}
	return fmt.Errorf("%s: %w", call, err)
}

// statusError decides about a whole answer: nil for 2xx, tried again where the
// status says that it is for now, else failed for good.
func statusError(req *http.Request, res *http.Response) error {
	status := res.StatusCode
	if status >= 200 && status <= 299 {
		return nil
	}
	err := fmt.Errorf("%s: %d %s%s", describeCall(req), status, http.StatusText(status), excerpt(res.Body))
	if !temporary(status) {
		return worker.Permanent(err)
	}
	if after, ok := retryAfter(res.Header.Get("Retry-After"), time.Now()); ok {
		return worker.RetryAfter(after, err)
	}
	return err
}

func temporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// retryAfter reads the header of that name, in seconds or as a date. One that
// asks for no wait is none: the task's own backoff is kinder.
func retryAfter(text string, now time.Time) (time.Duration, bool) {
	var wait time.Duration
	if n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil {
		wait = time.Duration(min(max(n, 0), int64(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(wait, maxRetryAfter), wait > 0
}

// describeCall names a call without its query.
func describeCall(req *http.Request) string {
	return fmt.Sprintf("%s %s://%s%s", req.Method, req.URL.Scheme, req.URL.Host, req.URL.EscapedPath())
}

// excerpt is the beginning of an answer's text in one line.
func excerpt(body io.Reader) string {
	read, _ := io.ReadAll(io.LimitReader(body, maxExcerpt)) // a part is better than nothing
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(read), ""))
	if text = strings.TrimSpace(text); text == "" {
		return ""
	}
	return ": " + text
}

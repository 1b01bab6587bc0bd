package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/internal/version"
)

const (
	// secretPrefix begins a secret of Standard Webhooks; base64 follows.
	secretPrefix = "whsec_"
	// A secret has from 24 to 64 bytes.
	leastSecret, mostSecret = 24, 64
	// never is no wait: there is no other attempt.
	never = time.Duration(-1)
	// longestWait bounds a Retry-After.
	longestWait = 24 * time.Hour
)

// Secret signs callbacks.
type Secret []byte

// ParseSecrets reads secrets of the form whsec_<base64>, separated by commas or
// white space. The error does not quote them.
func ParseSecrets(text string) ([]Secret, error) {
	var secrets []Secret
	for i, one := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
		encoded, found := strings.CutPrefix(one, secretPrefix)
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !found || err != nil || len(secret) < leastSecret || len(secret) > mostSecret {
			return nil, fmt.Errorf("secret %d must be %s and the base64 of %d to %d bytes, as `openssl rand -base64 32` makes the latter", i+1, secretPrefix, leastSecret, mostSecret)
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 {
		return nil, errNoSecret
	}
	return secrets, nil
}

// sign is the header webhook-signature: a signature by each secret, so that the
// secret can be changed.
func sign(secrets []Secret, id, timestamp string, body []byte) string {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

// call makes one call. With an error, again is how long to wait at least for
// another one, or never.
func (s *Sender) call(ctx context.Context, r record) (status int, again time.Duration, err error) {
	secrets, err := s.opts.Secrets()
	if err != nil {
		return 0, 0, err
	}
	target, err := s.opts.Allow.ParseURL(r.URL)
	if err != nil {
		return 0, 0, err // it may be allowed again
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(r.Body))
	if err != nil {
		return 0, never, errors.New("the URL cannot be called")
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "lovage-gateway/"+version.String()+" (+https://github.com/lovage-mq/lovage)")
	req.Header.Set("Webhook-Id", r.WebhookID)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", sign(secrets, r.WebhookID, timestamp, r.Body))
	res, err := s.client.Do(req)
	if err != nil {
		return 0, 0, callError(err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // the connection is worth keeping
	switch status = res.StatusCode; {
	case status >= 200 && status < 300:
		return status, 0, nil
	case status == http.StatusGone:
		return status, never, errors.New("410 Gone: nobody wants to be called there")
	case status >= 300 && status < 400:
		return status, 0, fmt.Errorf("%d %s: redirects are not followed", status, http.StatusText(status))
	}
	return status, retryAfter(res.Header.Get("Retry-After")), fmt.Errorf("%d %s", status, http.StatusText(status))
}

// callError leaves out the URL, whose query may hold a secret, and the address
// that a name leads to.
func callError(err error) error {
	if refused, ok := errors.AsType[*outbound.Refusal](err); ok {
		return refused
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		if wrapped.Timeout() {
			return fmt.Errorf("no whole answer within %v", callTimeout)
		}
		return wrapped.Err
	}
	return err
}

func retryAfter(text string) time.Duration {
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return min(time.Duration(n)*time.Second, longestWait)
	}
	return 0
}

package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client calls one gateway, or several behind one address. Its fields are not
// changed after the first call; then it may be used by many goroutines at once.
type Client struct {
	// BaseURL is where the gateway is, such as "http://127.0.0.1:8080". It is
	// required.
	BaseURL string
	// HTTPClient makes the requests, [http.DefaultClient] when it is nil. Its
	// timeout must be above the longest wait that is asked for.
	HTTPClient *http.Client
	// Token goes with every request as a bearer token, unless it is empty. It is
	// an API key, where the gateway asks for one.
	Token string
}

// call is one request. Its body is JSON unless it is a reader.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         any
}

// path puts a path together from segments, each of which may contain anything.
func path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// send returns the answer with its body still to be read, whatever its status.
func (c *Client) send(ctx context.Context, r call) (*http.Response, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	return cmp.Or(c.HTTPClient, http.DefaultClient).Do(req)
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case io.Reader:
		body = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode the body: %w", err)
		}
		body = bytes.NewReader(text)
	}
	address := strings.TrimRight(c.BaseURL, "/") + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, body)
	if err != nil {
		return nil, err
	}
	if r.header != nil {
		req.Header = r.header
	}
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	return req, nil
}

// do decodes a good answer into what into points to, unless that is nil, and
// returns any other as a [*Problem].
func (c *Client) do(ctx context.Context, r call, into any) (status int, header http.Header, err error) {
	res, err := c.send(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	status, header = res.StatusCode, res.Header
	switch {
	case status == http.StatusNotModified || status == http.StatusNoContent:
	case status >= http.StatusMultipleChoices:
		err = readProblem(res)
	case into != nil:
		err = decode(res.Body, into)
	default:
		_, err = io.Copy(io.Discard, res.Body)
	}
	return status, header, err
}

// ask makes a request without a body and returns what it is answered.
func ask[T any](ctx context.Context, c *Client, method, path string, query url.Values) (*T, error) {
	v := new(T)
	if _, _, err := c.do(ctx, call{method: method, path: path, query: query}, v); err != nil {
		return nil, err
	}
	return v, nil
}

// decode reads all of the body, which leaves the connection to the next request.
func decode(body io.Reader, into any) error {
	text, err := io.ReadAll(body)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// prefer is the header of a request that waits, in whole seconds.
func prefer(wait time.Duration) string {
	return "wait=" + strconv.Itoa(int(math.Ceil(wait.Seconds())))
}

// seconds writes a duration as the API takes it.
func seconds(d time.Duration) json.Number {
	return json.Number(strconv.FormatFloat(d.Seconds(), 'f', -1, 64))
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// setText sets a parameter, unless it is empty.
func setText(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setInt(q url.Values, name string, value int) {
	if value != 0 {
		q.Set(name, strconv.Itoa(value))
	}
}

func setTime(q url.Values, name string, value time.Time) {
	if !value.IsZero() {
		q.Set(name, instant(value))
	}
}

// pause waits, and reports whether ctx is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

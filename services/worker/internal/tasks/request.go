package tasks

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/worker"
)

const userAgent = "lovage-worker (+https://github.com/lovage-mq/lovage)"

type requestIn struct {
	Method  string            `json:"method" jsonschema:"enum=GET,enum=POST,enum=PUT,enum=PATCH,enum=DELETE,enum=HEAD,default=POST,description=The HTTP method."`
	URL     string            `json:"url" jsonschema:"minLength=1,maxLength=8192,description=What to call; its host must be on the worker's LOVAGE_HTTP_ALLOW."`
	Headers map[string]string `json:"headers,omitempty" jsonschema:"description=Headers to send."`
	JSON    json.RawMessage   `json:"json,omitempty" jsonschema:"description=The body\\, sent as application/json; null or absent for none."`
	Timeout float64           `json:"timeout" jsonschema:"minimum=1,maximum=300,default=30,description=How long the whole call may take\\, in seconds."`
}

type requestOut struct {
	Status  int               `json:"status" jsonschema:"description=The HTTP status: 2xx."`
	Headers map[string]string `json:"headers" jsonschema:"description=The headers of the answer in lower case; several of one name are joined by commas."`
	// Body is any JSON value, so its schema says nothing.
	Body         any    `json:"body" jsonschema:"description=The body: a JSON value or a string or null; see body_encoding."`
	BodyEncoding string `json:"body_encoding" jsonschema:"enum=none,enum=json,enum=text,enum=base64,description=How to read body."`
}

// requester is http_request.
type requester struct {
	allow       outbound.AllowList
	client      *http.Client
	maxRequest  int64
	maxResponse int64
}

func newRequester(c Config, allow outbound.AllowList, client *http.Client) *requester {
	return &requester{allow: allow, client: client, maxRequest: c.MaxRequest, maxResponse: c.MaxResponse}
}

func (r *requester) run(ctx context.Context, in requestIn) (requestOut, error) {
	limited, cancel := context.WithTimeout(ctx, seconds(in.Timeout))
	defer cancel()
	req, err := r.request(limited, in)
	if err != nil {
		return requestOut{}, worker.Permanent(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return requestOut{}, callError(ctx, req, err)
	}
	defer res.Body.Close() //nolint:errcheck // only read from
	if err := statusError(req, res); err != nil {
		return requestOut{}, err
	}
	body, err := readBody(res.Body, r.maxResponse)
	if err != nil {
		return requestOut{}, callError(ctx, req, err)
	}
	out := requestOut{Status: res.StatusCode, Headers: flatten(res.Header)}
	out.Body, out.BodyEncoding = decodeBody(res.Header.Get("Content-Type"), body)
	return out, nil
}

// request checks everything that can be checked before the call.
func (r *requester) request(ctx context.Context, in requestIn) (*http.Request, error) {
	u, err := r.allow.ParseURL(in.URL)
	if err != nil {
		return nil, err
	}
	if int64(len(in.JSON)) > r.maxRequest {
		return nil, fmt.Errorf("json: has %d bytes, the limit is %d", len(in.JSON), r.maxRequest)
	}
	var body io.Reader
	if len(in.JSON) > 0 && string(in.JSON) != "null" {
		body = bytes.NewReader(in.JSON)
	}
	req, err := http.NewRequestWithContext(ctx, in.Method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	req.Header.Set("User-Agent", userAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	sign(ctx, req)
	return req, setHeaders(req.Header, in.Headers)
}

// sign tells the called service which task this is: the key is the same for
// every attempt, so that the service can do its work once.
func sign(ctx context.Context, req *http.Request) {
	if token := worker.Token(ctx); httpguts.ValidHeaderFieldValue(token) && token != "" {
		req.Header.Set("Idempotency-Key", token)
	}
	if trace := worker.TraceParent(ctx); httpguts.ValidHeaderFieldValue(trace) && trace != "" {
		req.Header.Set("Traceparent", trace)
	}
}

// setHeaders adds the caller's headers, in order, so that of two spellings of
// one name always the same wins.
func setHeaders(header http.Header, given map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return fmt.Errorf("headers: %q is not a header name", name)
		case reservedHeader(name):
			return fmt.Errorf("headers: %s belongs to the connection and cannot be set", http.CanonicalHeaderKey(name))
		case !httpguts.ValidHeaderFieldValue(given[name]):
			return fmt.Errorf("headers: the value of %s has characters that a header cannot have", name)
		}
		header.Set(name, given[name])
	}
	return nil
}

func reservedHeader(name string) bool {
	name = http.CanonicalHeaderKey(name)
	switch name {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Expect":
		return true
	}
	return strings.HasPrefix(name, "Proxy-")
}

// readBody reads a body of limited size.
func readBody(body io.Reader, limit int64) ([]byte, error) {
	read, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(read)) > limit {
		return nil, outbound.Refuse("the answer has more than %d bytes", limit)
	}
	return read, nil
}

func flatten(header http.Header) map[string]string {
	flat := make(map[string]string, len(header))
	for name, values := range header {
		flat[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "\uFFFD")
	}
	return flat
}

// decodeBody puts a body into JSON: as it is where it is JSON, as text where it
// can be, in base64 otherwise.
func decodeBody(contentType string, body []byte) (value any, encoding string) {
	if len(body) == 0 {
		return nil, "none"
	}
	if !utf8.Valid(body) || bytes.IndexByte(body, 0) >= 0 {
		return base64.StdEncoding.EncodeToString(body), "base64"
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	if (mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")) && json.Valid(body) {
		return json.RawMessage(body), "json"
	}
	return string(body), "text"
}

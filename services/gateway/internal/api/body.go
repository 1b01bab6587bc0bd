package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
)

// readBody returns the one JSON value that the request carries, as the bytes
// that came, without white space around it. It is checked to be JSON that
// every reader behind us understands in the same way. The error is a
// [*problem].
func readBody(c *call, limit int64) ([]byte, error) {
	if c.body != nil {
		return c.body, nil
	}
	if _, err := checkContentType(c.request.Header, "send Content-Type: application/json", jsonType); err != nil {
		return nil, err
	}
	if c.request.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	data, err := readAll(http.MaxBytesReader(c.writer, c.request.Body, limit), c.request.ContentLength)
	if err != nil {
		return nil, readProblem(err, limit)
	}
	data = bytes.Trim(data, " \t\r\n")
	if err := checkJSON(data); err != nil {
		return nil, err
	}
	return data, nil
}

// readAll reads a body, of which the length may be known.
func readAll(body io.Reader, length int64) ([]byte, error) {
	const trusted = 64 << 10 // as much is made ready for bytes that may never come
	if length < 0 || length > trusted {
		return io.ReadAll(body)
	}
	data := make([]byte, length)
	_, err := io.ReadFull(body, data)
	return data, err
}

// checkContentType wants one of the types, in UTF-8 and uncompressed, and
// returns which one it is.
func checkContentType(h http.Header, wayOut string, types ...string) (string, error) {
	if h.Get("Content-Type") == "" {
		return "", newProblem(slugMediaType, "the Content-Type is missing; "+wayOut)
	}
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || !slices.Contains(types, media) {
		return "", newProblem(slugMediaType, "the body must be JSON; "+wayOut)
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return "", newProblem(slugMediaType, "the charset must be utf-8")
	}
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return "", newProblem(slugMediaType, "the body must not be compressed (Content-Encoding)")
	}
	return media, nil
}

func tooLarge(limit int64) error {
	return newProblem(slugTooLarge, fmt.Sprintf(
		"the body may have at most %d bytes (LOVAGE_MAX_BODY); pass large data by reference, such as a URL", limit))
}

func readProblem(err error, limit int64) error {
	switch _, large := errors.AsType[*http.MaxBytesError](err); {
	case large:
		return tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return newProblem(slugSlowBody, "the body did not arrive in time")
	default:
		return newProblem(slugUnreadable, "the body ended before its time")
	}
}

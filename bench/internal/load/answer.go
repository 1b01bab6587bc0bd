package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Request returns the bytes of a POST with a JSON body; further headers are
// lines.
func Request(address, path, body string, headers ...string) []byte {
	lines := append([]string{
		"POST " + path + " HTTP/1.1", "Host: " + address, "Content-Type: application/json", "Content-Length: " + strconv.Itoa(len(body)),
	}, headers...)
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n" + body)
}

var errNoLength = errors.New("read answer: it has no Content-Length")

// readAnswer reads one HTTP/1.1 answer of known length and returns its status.
// It looks at nothing else: net/http would take several times as long.
func readAnswer(in *bufio.Reader) (status int, err error) {
	head, err := readHead(in)
	if err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	const digits = len("HTTP/1.1 ")
	if len(head) < digits+3 {
		return 0, fmt.Errorf("read answer: it begins with %q", head)
	}
	if status, err = strconv.Atoi(string(head[digits : digits+3])); err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	length, err := contentLength(head)
	if err != nil {
		return 0, err
	}
	if _, err := in.Discard(len(head) + length); err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	return status, nil
}

// readHead returns the head of an answer, with the empty line at its end. It
// stays in the reader.
func readHead(in *bufio.Reader) ([]byte, error) {
	for most := 1; ; {
		seen, err := in.Peek(most)
		if buffered := in.Buffered(); buffered > len(seen) {
			seen, _ = in.Peek(buffered)
		}
		if end := bytes.Index(seen, []byte("\r\n\r\n")); end >= 0 {
			return seen[:end+4], nil
		}
		if err != nil {
			return nil, err
		}
		most = len(seen) + 1
	}
}

// contentLength returns the length of the body behind a head.
func contentLength(head []byte) (int, error) {
	const name = "\r\ncontent-length:"
	at := bytes.Index(head, []byte("\r\nContent-Length:")) // as net/http writes it
	if at < 0 {
		at = bytes.Index(bytes.ToLower(head), []byte(name))
	}
	if at < 0 {
		return 0, errNoLength
	}
	value, _, _ := bytes.Cut(head[at+len(name):], []byte("\r\n"))
	length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
	if err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	return length, nil
}

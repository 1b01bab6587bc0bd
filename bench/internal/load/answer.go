package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Request returns the bytes of a POST with a JSON body.
func Request(address, path, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, address, len(body), body)
}

var errNoLength = errors.New("read answer: it has no Content-Length")

// readAnswer reads one HTTP/1.1 answer of known length and returns its status.
// It looks at nothing else: net/http would take several times as long.
func readAnswer(in *bufio.Reader) (status int, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	const digits = len("HTTP/1.1 ")
	if len(line) < digits+3 {
		return 0, fmt.Errorf("read answer: it begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[digits : digits+3])); err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	length, err := readHeader(in)
	if err != nil {
		return 0, err
	}
	if _, err := in.Discard(length); err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	return status, nil
}

// readHeader returns the length of the body that follows.
func readHeader(in *bufio.Reader) (length int, err error) {
	for length = -1; ; {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("read answer: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		const name = "content-length:"
		if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
			continue
		}
		if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
			return 0, fmt.Errorf("read answer: %w", err)
		}
	}
	if length < 0 {
		return 0, errNoLength
	}
	return length, nil
}

package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// splitSize is how much of a batch is read at a time.
const splitSize = 32 << 10

// splitter takes a batch apart.
type splitter interface {
	// begin reads up to the first item. Its error is a [*problem] of the
	// whole request.
	begin() error
	// next returns the next item; false when there is none.
	next() (piece, bool)
}

// piece is one item as it came, or the [*problem] with it. Nothing follows the
// last one.
type piece struct {
	raw  []byte
	err  error
	last bool
}

func fatal(err error) piece { return piece{err: err, last: true} }

// unreadable is the end of a batch whose request ended before its time.
func unreadable(err error, limit int64) error {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	return readProblem(err, limit)
}

func emptyBatch() error {
	return newProblem(slugEmptyBody, "send an array of envelopes, or an envelope per line (application/x-ndjson)")
}

func itemTooLarge(limit int64) error {
	return newProblem(slugTooLarge, fmt.Sprintf(
		"an item may have at most %d bytes (LOVAGE_MAX_BODY); pass large data by reference, such as a URL", limit))
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// lineSplitter reads an item from every line that has something in it.
type lineSplitter struct {
	in    *bufio.Reader
	limit int64
	long  []byte // a line that is longer than the buffer of in
}

func newLineSplitter(r io.Reader, limit int64) *lineSplitter {
	return &lineSplitter{in: bufio.NewReaderSize(r, splitSize), limit: limit}
}

func (s *lineSplitter) begin() error {
	for {
		c, err := s.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return emptyBatch()
		case err != nil:
			return unreadable(err, s.limit)
		case !isSpace(c):
			return s.in.UnreadByte()
		}
	}
}

func (s *lineSplitter) next() (piece, bool) {
	for {
		line, large, err := s.line()
		if err != nil && !errors.Is(err, io.EOF) {
			// What came of the line is not all of it.
			return fatal(unreadable(err, s.limit)), true
		}
		if large {
			return piece{err: itemTooLarge(s.limit)}, true
		}
		line = bytes.Trim(line, " \t\r\n")
		if len(line) == 0 && err == nil {
			continue
		}
		if len(line) == 0 {
			return piece{}, false
		}
		if err := checkJSON(line); err != nil {
			return piece{err: err}, true
		}
		return piece{raw: bytes.Clone(line)}, true
	}
}

// line reads to the end of a line and keeps no more of it than the limit; it
// is valid until the next call.
func (s *lineSplitter) line() (line []byte, large bool, err error) {
	line, err = s.in.ReadSlice('\n')
	s.long = s.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		if large = large || int64(len(s.long)+len(line)) > s.limit; !large {
			s.long = append(s.long, line...)
		}
		line, err = s.in.ReadSlice('\n')
	}
	if len(s.long) > 0 && !large {
		s.long = append(s.long, line...)
		line = s.long
	}
	if cap(s.long) > 2*splitSize {
		s.long = nil
	}
	return line, large || int64(len(bytes.TrimRight(line, "\r\n"))) > s.limit, err
}

// arraySplitter reads the items of one JSON array.
type arraySplitter struct {
	in    *bufio.Reader
	limit int64
	item  []byte
	comma bool // the last item ended with a comma
	line  bool // the last byte ended a line
	// Where the next byte is.
	offset, lineStart int64
	lines             int
}

func newArraySplitter(r io.Reader, limit int64) *arraySplitter {
	return &arraySplitter{in: bufio.NewReaderSize(r, splitSize), limit: limit}
}

func (s *arraySplitter) begin() error {
	c, err := s.skipSpace()
	switch {
	case errors.Is(err, io.EOF):
		return emptyBatch()
	case err != nil:
		return unreadable(err, s.limit)
	case c == '[':
		return nil
	case bytes.IndexByte([]byte(`{"-0123456789tfn`), c) >= 0:
		return invalid(slugInput, []fieldError{atPointer("", "must be an array of envelopes; for one per line send application/x-ndjson")})
	}
	return s.malformed(fmt.Sprintf("invalid character %q looking for the beginning of an array", c))
}

func (s *arraySplitter) next() (piece, bool) {
	c, err := s.skipSpace()
	switch {
	case err != nil:
		return s.broken(err), true
	case c == ']' && !s.comma:
		return s.end()
	case c == ']' || c == ',':
		return fatal(s.malformed(fmt.Sprintf("invalid character %q looking for the beginning of an item", c))), true
	}
	if err := s.in.UnreadByte(); err != nil {
		return s.broken(err), true
	}
	s.offset--
	at := s.place(0)
	item, large, err := s.element()
	switch {
	case err != nil:
		return s.broken(err), true
	case large:
		return piece{err: itemTooLarge(s.limit)}, true
	}
	if err := checkJSON(item); err != nil {
		p := problemOf(err)
		if p.kind == slugMalformed {
			// Who knows where this item ends?
			p.Detail += " of the item that begins at " + at
			return fatal(p), true
		}
		return piece{err: p}, true
	}
	return piece{raw: bytes.Clone(item)}, true
}

// element reads up to the comma or bracket behind an item, which is consumed
// when it is a comma, and keeps no more of it than the limit.
func (s *arraySplitter) element() (item []byte, large bool, err error) {
	if cap(s.item) > 2*splitSize {
		s.item = nil
	}
	s.item = s.item[:0]
	var depth int
	var quoted, escaped bool
	for {
		c, err := s.readByte()
		if err != nil {
			return nil, false, err
		}
		switch {
		case quoted && c < ' ':
			return nil, false, s.malformed(fmt.Sprintf("invalid character %q in string literal", c))
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && c == ',':
			s.comma = true
			return bytes.TrimRight(s.item, " \t\r\n"), large, nil
		case depth == 0 && c == ']':
			s.offset, s.comma = s.offset-1, false
			return bytes.TrimRight(s.item, " \t\r\n"), large, s.in.UnreadByte()
		}
		if large = large || int64(len(s.item)) >= s.limit && !isSpace(c); !large && int64(len(s.item)) < s.limit {
			s.item = append(s.item, c)
		}
	}
}

// end wants nothing behind the array.
func (s *arraySplitter) end() (piece, bool) {
	switch c, err := s.skipSpace(); {
	case errors.Is(err, io.EOF):
		return piece{}, false
	case err != nil:
		return s.broken(err), true
	default:
		return fatal(s.malformed(fmt.Sprintf("invalid character %q after the array", c))), true
	}
}

func (s *arraySplitter) skipSpace() (byte, error) {
	for {
		if c, err := s.readByte(); err != nil || !isSpace(c) {
			return c, err
		}
	}
}

func (s *arraySplitter) readByte() (byte, error) {
	c, err := s.in.ReadByte()
	if err != nil {
		return 0, err
	}
	if s.line {
		s.lines++
		s.lineStart = s.offset
	}
	s.offset, s.line = s.offset+1, c == '\n'
	return c, nil
}

// broken is the end of an array that has no end.
func (s *arraySplitter) broken(err error) piece {
	if errors.Is(err, io.EOF) {
		return fatal(newProblem(slugMalformed, "unexpected end of the array at "+s.place(0)))
	}
	return fatal(unreadable(err, s.limit))
}

// malformed is a problem with the byte that was just read.
func (s *arraySplitter) malformed(what string) *problem {
	return newProblem(slugMalformed, what+" at "+s.place(-1))
}

// place names a byte of the body by its distance from the next one.
func (s *arraySplitter) place(by int64) string {
	at := s.offset + by
	return fmt.Sprintf("line %d, column %d (byte %d)", s.lines+1, at-s.lineStart+1, at)
}

package rabbitmq

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

const (
	frameHeaderSize = 7
	frameTypeHeader = 2
	// maxHeaderFrame bounds the header frame that is held in memory; RabbitMQ
	// negotiates frames of at most 128 KiB.
	maxHeaderFrame = 1 << 20
	maxTableDepth  = 64
	// maxCorked is how much a corked connection holds back.
	maxCorked = 64 << 10
)

// wireConn is the socket below amqp091-go. Every write has a deadline, because
// the library sets none and a stuck write there holds the locks that its
// heartbeat and its Close need. On the way in it rewrites header values of
// type L to l: py-amqp writes every integer above 2^31-1 as L, which
// amqp091-go takes for a syntax error and closes the connection.
type wireConn struct {
	net.Conn
	writeTimeout time.Duration

	mu     sync.Mutex
	corked bool
	out    []byte // held back while corked

	in      *bufio.Reader
	pending []byte // read and ready to be handed on
	pass    int    // bytes of the present frame that are handed on unseen
	frame   []byte // reused for header frames
}

func newWireConn(c net.Conn, writeTimeout time.Duration) *wireConn {
	return &wireConn{Conn: c, writeTimeout: writeTimeout, in: bufio.NewReaderSize(c, 32<<10)}
}

// Write writes all of b within the write timeout or fails. While the
// connection is corked it holds b back instead.
func (c *wireConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corked {
		c.out = append(c.out, b...)
		if len(c.out) < maxCorked {
			return len(b), nil
		}
		if err := c.flush(); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return c.write(b)
}

// cork holds back what is written until uncork, so that many messages share
// one call of the kernel and one wake-up of the broker.
func (c *wireConn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
}

func (c *wireConn) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	return c.flush()
}

func (c *wireConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.write(c.out)
	c.out = c.out[:0]
	return err
}

func (c *wireConn) write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Read is called by one goroutine only, the library's reader.
func (c *wireConn) Read(b []byte) (int, error) {
	if len(c.pending) == 0 && c.pass == 0 {
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	if len(c.pending) > 0 {
		n := copy(b, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	n, err := c.in.Read(b[:min(len(b), c.pass)])
	c.pass -= n
	return n, err
}

func (c *wireConn) nextFrame() error {
	c.frame = append(c.frame[:0], make([]byte, frameHeaderSize)...)
	if _, err := io.ReadFull(c.in, c.frame); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(c.frame[3:])) + 1 // and the end octet
	if c.frame[0] != frameTypeHeader || size > maxHeaderFrame {
		c.pending, c.pass = c.frame, size
		return nil
	}
	c.frame = append(c.frame, make([]byte, size)...)
	if _, err := io.ReadFull(c.in, c.frame[frameHeaderSize:]); err != nil {
		return err
	}
	rewriteHeaderFrame(c.frame[frameHeaderSize : len(c.frame)-1])
	c.pending = c.frame
	return nil
}

// rewriteHeaderFrame turns every L in the header table of a content header
// into l, in place: both are eight bytes. What it cannot follow it leaves as
// it is; the library then reports the syntax error.
func rewriteHeaderFrame(payload []byte) {
	const (
		fixed           = 2 + 2 + 8 + 2 // class, weight, body size, flags
		contentType     = 1 << 15
		contentEncoding = 1 << 14
		headers         = 1 << 13
	)
	if len(payload) < fixed {
		return
	}
	flags := binary.BigEndian.Uint16(payload[fixed-2:])
	if flags&headers == 0 {
		return
	}
	rest := payload[fixed:]
	for _, f := range []uint16{contentType, contentEncoding} {
		if flags&f == 0 {
			continue
		}
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return
		}
		rest = rest[1+int(rest[0]):]
	}
	if table, _, ok := longBytes(rest); ok {
		rewriteTable(table, 0)
	}
}

func rewriteTable(b []byte, depth int) bool {
	for len(b) > 0 {
		name := 1 + int(b[0])
		if len(b) <= name {
			return false
		}
		rest, ok := rewriteField(b[name:], depth)
		if !ok {
			return false
		}
		b = rest
	}
	return true
}

func rewriteArray(b []byte, depth int) bool {
	for len(b) > 0 {
		rest, ok := rewriteField(b, depth)
		if !ok {
			return false
		}
		b = rest
	}
	return true
}

// rewriteField rewrites the field value at the head of b and returns what
// follows it.
func rewriteField(b []byte, depth int) (rest []byte, ok bool) {
	if depth > maxTableDepth || len(b) == 0 {
		return nil, false
	}
	kind, value := b[0], b[1:]
	if kind == 'L' {
		b[0] = 'l'
	}
	switch kind {
	case 'S', 'x', 'A', 'F':
		body, rest, ok := longBytes(value)
		if ok && kind == 'A' {
			ok = rewriteArray(body, depth+1)
		}
		if ok && kind == 'F' {
			ok = rewriteTable(body, depth+1)
		}
		return rest, ok
	}
	size, ok := fieldSize(kind)
	if !ok || len(value) < size {
		return nil, false
	}
	return value[size:], true
}

// fieldSize is the length of a field value of a fixed size, by RabbitMQ's
// table of AMQP 0-9-1 field types.
func fieldSize(kind byte) (int, bool) {
	switch kind {
	case 'V':
		return 0, true
	case 't', 'b', 'B':
		return 1, true
	case 's', 'u', 'U':
		return 2, true
	case 'I', 'i', 'f':
		return 4, true
	case 'D':
		return 5, true
	case 'l', 'L', 'd', 'T':
		return 8, true
	}
	return 0, false
}

func longBytes(b []byte) (body, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if int64(len(b)-4) < n {
		return nil, nil, false
	}
	return b[4 : 4+n], b[4+n:], true
}

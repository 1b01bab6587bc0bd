package rabbitmq

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxHeaderFrame bounds the header frame that is held in memory; RabbitMQ
	// negotiates frames of at most 128 KiB.
	maxHeaderFrame = 1 << 20
	maxTableDepth  = 64
	// maxMethodFrame bounds the method frames that are looked at; those of a
	// confirm have 13 bytes.
	maxMethodFrame = 4 << 10
	// maxPiece is how much is written within one write timeout.
	maxPiece = 128 << 10
	// beatEvery is how often the library is to see a frame while others are
	// taken out, so that it does not take the broker for dead.
	beatEvery = time.Second
)

// methodHandler sees a method that comes in, and says whether it has taken it.
// What it has not taken goes on to the library.
type methodHandler func(channel uint16, method uint32, args []byte) (taken bool)

// wireConn is the socket below amqp091-go. Every write has a deadline, because
// the library sets none and a stuck write there holds the locks that its
// heartbeat and its Close need. On the way in it shows methods to a handler, and
// rewrites header values of type L to l: py-amqp writes every integer above
// 2^31-1 as L, which amqp091-go takes for a syntax error and closes the
// connection.
type wireConn struct {
	net.Conn
	writeTimeout time.Duration
	methods      methodHandler

	mu sync.Mutex // held for a write

	in      *bufio.Reader
	pending []byte    // read and ready to be handed on
	pass    int       // bytes of the present frame that are handed on unseen
	frame   []byte    // reused for header and method frames
	passed  time.Time // when the library last got a frame

	heard atomic.Int64 // when the last frame came in, unix nanoseconds
}

// lastFrame is when the last frame came in; before the first, when the
// connection began.
func (c *wireConn) lastFrame() time.Time { return time.Unix(0, c.heard.Load()) }

func newWireConn(c net.Conn, writeTimeout time.Duration, methods methodHandler) *wireConn {
	w := &wireConn{Conn: c, writeTimeout: writeTimeout, methods: methods, in: bufio.NewReaderSize(c, 32<<10)}
	w.heard.Store(time.Now().UnixNano())
	return w
}

// Write writes all of b, which is to be whole frames, or fails. Each piece of it
// has the write timeout.
func (c *wireConn) Write(b []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n < len(b) && err == nil {
		if err = c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
			return n, err
		}
		var written int
		written, err = c.Conn.Write(b[n:min(len(b), n+maxPiece)])
		n += written
	}
	return n, err
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

// nextFrame reads on up to a frame that the library is to see.
func (c *wireConn) nextFrame() error {
	for {
		c.frame = slices.Grow(c.frame[:0], frameHeaderSize)[:frameHeaderSize]
		if _, err := io.ReadFull(c.in, c.frame); err != nil {
			return err
		}
		now := time.Now()
		c.heard.Store(now.UnixNano())
		size := int(binary.BigEndian.Uint32(c.frame[3:])) + 1 // and the end octet
		switch kind := c.frame[0]; {
		case kind == frameTypeHeader && size <= maxHeaderFrame:
			if err := c.readFrame(size); err != nil {
				return err
			}
			rewriteHeaderFrame(c.frame[frameHeaderSize : len(c.frame)-1])
			c.pending, c.pass = c.frame, 0
		case kind == frameTypeMethod && size <= maxMethodFrame && c.methods != nil:
			if err := c.readFrame(size); err != nil {
				return err
			}
			if c.taken() && !c.beat(now) {
				continue
			}
			c.pending, c.pass = c.frame, 0
		default:
			c.pending, c.pass = c.frame, size
		}
		c.passed = now
		return nil
	}
}

// readFrame reads the rest of a frame.
func (c *wireConn) readFrame(size int) error {
	c.frame = slices.Grow(c.frame, size)[:frameHeaderSize+size]
	_, err := io.ReadFull(c.in, c.frame[frameHeaderSize:])
	return err
}

// taken shows a method frame to the handler.
func (c *wireConn) taken() bool {
	const method = 4
	payload := c.frame[frameHeaderSize : len(c.frame)-1]
	return len(payload) >= method &&
		c.methods(binary.BigEndian.Uint16(c.frame[1:]), binary.BigEndian.Uint32(payload), payload[method:])
}

// beat puts a heartbeat in the place of a frame that was taken, once in a while.
func (c *wireConn) beat(now time.Time) bool {
	if now.Sub(c.passed) < beatEvery {
		return false
	}
	c.frame = append(c.frame[:0], frameTypeBeat, 0, 0, 0, 0, 0, 0, frameEnd)
	return true
}

// rewriteHeaderFrame turns every L in the header table of a content header
// into l, in place: both are eight bytes. What it cannot follow it leaves as
// it is; the library then reports the syntax error.
func rewriteHeaderFrame(payload []byte) {
	const fixed = 2 + 2 + 8 + 2 // class, weight, body size, flags
	if len(payload) < fixed {
		return
	}
	flags := binary.BigEndian.Uint16(payload[fixed-2:])
	if flags&flagHeaders == 0 {
		return
	}
	rest := payload[fixed:]
	for _, f := range []uint16{flagContentType, flagContentEncoding} {
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

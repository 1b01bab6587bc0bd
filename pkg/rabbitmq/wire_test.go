package rabbitmq

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// field is one entry of a header table on the wire.
func field(name string, kind byte, value ...byte) []byte {
	b := append([]byte{byte(len(name))}, name...)
	return append(append(b, kind), value...)
}

func long(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func frame(kind byte, payload []byte) []byte {
	b := []byte{kind, 0, 1}
	b = append(b, long(payload)...)
	return append(b, 0xCE)
}

// headerFrame is a content header with content type, encoding and headers.
func headerFrame(table []byte) []byte {
	p := []byte{0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0xE0, 0}
	p = append(p, 4, 'L', 'L', 'L', 'L', 1, 'L')
	return frame(frameTypeHeader, append(p, long(table)...))
}

// readAll reads a stream through a wireConn in pieces of the given size.
func readAll(t *testing.T, stream []byte, piece int) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_, _ = server.Write(stream)
		_ = server.Close()
	}()
	defer func() { _ = client.Close() }()
	c := newWireConn(client, time.Second, nil)
	var out []byte
	buf := make([]byte, piece)
	for {
		n, err := c.Read(buf)
		out = append(out, buf[:n]...)
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			return out
		}
	}
}

func TestLongLongHeadersAreRewrittenOnTheWayIn(t *testing.T) {
	t.Parallel()
	eight := []byte{0, 0, 0, 1, 'L', 0, 0, 0}
	nested := field("n", 'F', long(field("x", 'L', eight...))...)
	list := field("a", 'A', long(append(append([]byte{'S'}, long([]byte("L"))...), append([]byte{'L'}, eight...)...))...)
	table := bytes.Join([][]byte{
		field("L", 'S', long([]byte("LLL"))...), field("b", 't', 1), field("d", 'D', 1, 2, 3, 4, 5),
		field("v", 'V'), nested, list, field("c", 'L', eight...),
	}, nil)
	want := bytes.Join([][]byte{
		field("L", 'S', long([]byte("LLL"))...), field("b", 't', 1), field("d", 'D', 1, 2, 3, 4, 5),
		field("v", 'V'),
		field("n", 'F', long(field("x", 'l', eight...))...),
		field("a", 'A', long(append(append([]byte{'S'}, long([]byte("L"))...), append([]byte{'l'}, eight...)...))...),
		field("c", 'l', eight...),
	}, nil)
	body := frame(3, []byte("LLLL"))
	stream := bytes.Join([][]byte{frame(1, []byte("L")), headerFrame(table), body, headerFrame(table)}, nil)
	for _, piece := range []int{1, 3, 4096} {
		got := readAll(t, stream, piece)
		require.Equal(t, bytes.Join([][]byte{frame(1, []byte("L")), headerFrame(want), body, headerFrame(want)}, nil), got)
	}
}

// The library does not see what the handler takes, and gets a heartbeat in its
// place once in a while: else it would take the broker for dead.
func TestMethodsThatAreTakenDoNotReachTheLibrary(t *testing.T) {
	t.Parallel()
	ack := frame(frameTypeMethod, []byte{0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 9, 1})
	other := frame(frameTypeMethod, []byte{0, 60, 0, 50, 7})
	short := frame(frameTypeMethod, []byte{0, 60})
	large := frame(frameTypeMethod, bytes.Repeat([]byte{0, 60, 0, 80}, maxMethodFrame))
	beat := []byte{frameTypeBeat, 0, 0, 0, 0, 0, 0, frameEnd}
	stream := bytes.Join([][]byte{other, ack, ack, short, ack, large, headerFrame(nil), ack}, nil)
	var tags []uint64
	read := func(passed time.Time) []byte {
		c := newWireConn(&readOnly{Reader: bytes.NewReader(stream)}, time.Second, func(channel uint16, method uint32, args []byte) bool {
			require.EqualValues(t, 1, channel)
			if method != basicAck {
				require.EqualValues(t, basicReturn, method)
				return false
			}
			tags = append(tags, binary.BigEndian.Uint64(args))
			return true
		})
		c.passed = passed
		out, err := io.ReadAll(c)
		require.NoError(t, err)
		return out
	}
	rest := bytes.Join([][]byte{short, large, headerFrame(nil)}, nil)
	require.Equal(t, append(bytes.Clone(other), rest...), read(time.Now()))
	require.Equal(t, []uint64{9, 9, 9, 9}, tags)
	stream = bytes.Join([][]byte{ack, ack, ack}, nil)
	require.Equal(t, beat, read(time.Time{}), "a heartbeat in the place of the first")
	require.Empty(t, read(time.Now()))
}

func FuzzWireConn(f *testing.F) {
	f.Add(headerFrame(field("c", 'L', 0, 0, 0, 0, 0, 0, 0, 1)))
	f.Add(headerFrame(field("n", 'F', long(field("x", 'L', 1, 2, 3, 4, 5, 6, 7, 8))...)))
	f.Add([]byte("AMQP\x00\x00\x09\x01"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		got := readAllPrefix(t, stream)
		require.LessOrEqual(t, len(got), len(stream))
		for i := range got {
			if got[i] != stream[i] {
				require.Equal(t, [2]byte{'L', 'l'}, [2]byte{stream[i], got[i]}, "byte %d", i)
			}
		}
	})
}

// readAllPrefix reads what can be read of a stream that may end in the middle
// of a frame.
func readAllPrefix(t *testing.T, stream []byte) []byte {
	t.Helper()
	c := newWireConn(&readOnly{Reader: bytes.NewReader(stream)}, time.Second, nil)
	out, err := io.ReadAll(c)
	if err != nil {
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	return out
}

type readOnly struct {
	net.Conn
	io.Reader
}

func (r *readOnly) Read(b []byte) (int, error) { return r.Reader.Read(b) }

func TestWriteToAPeerThatDoesNotReadEndsAtTheDeadline(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	_, err := newWireConn(client, 20*time.Millisecond, nil).Write([]byte("x"))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}

package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// dial opens a connection to the gateway past every HTTP client.
func (s *stack) dial() net.Conn {
	s.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(2*patience)))
	return conn
}

// drip writes a text one byte at a time, until the other side has enough.
func drip(conn net.Conn, text string, every time.Duration) {
	for i := range text {
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
		<-time.After(every)
	}
}

const submission = "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

func TestSlowClientsAreNotWaitedForLong(t *testing.T) {
	t.Parallel()
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	s.gateway("LOVAGE_MAX_BODY=1000")
	for _, c := range []struct {
		name      string
		send      func(conn net.Conn)
		from, to  time.Duration
		status    int // 0 for a connection that is closed without an answer
		mentioned string
	}{
		{name: "nothing", send: func(net.Conn) {}, from: 4 * time.Second, to: 8 * time.Second},
		{
			name: "slow head", from: 4 * time.Second, to: 8 * time.Second, status: http.StatusBadRequest,
			send: func(c net.Conn) {
				_, _ = fmt.Fprint(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\n")
				drip(c, "X-Slow: very slow", time.Second)
			},
		},
		{
			name: "slow body", from: 25 * time.Second, to: 35 * time.Second, status: http.StatusRequestTimeout, mentioned: "body-timeout",
			send: func(c net.Conn) {
				_, _ = fmt.Fprintf(c, submission, 100)
				drip(c, strings.Repeat(" ", 60), time.Second)
			},
		},
		{
			name: "large body", to: 2 * time.Second, status: http.StatusRequestEntityTooLarge, mentioned: "LOVAGE_MAX_BODY",
			send: func(c net.Conn) { _, _ = fmt.Fprintf(c, submission, 1001) },
		},
		{
			name: "large head", to: 2 * time.Second, status: http.StatusRequestHeaderFieldsTooLarge,
			send: func(c net.Conn) {
				_, _ = fmt.Fprintf(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", 40<<10))
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			at := *s
			at.t = t
			conn := at.dial()
			begun := time.Now()
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				c.send(conn)
			}()
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			took := time.Since(begun)
			require.GreaterOrEqual(t, took, c.from)
			require.Less(t, took, c.to+5*time.Second, "with some patience for a busy machine")
			if c.status == 0 {
				require.Error(t, err, "the connection is closed")
			} else {
				require.NoError(t, err)
				require.Equal(t, c.status, res.StatusCode)
				text, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
				require.Contains(t, string(text), c.mentioned)
				require.True(t, res.Close)
			}
			require.NoError(t, conn.Close())
			<-sent
		})
	}
}

func TestClientThatTakesNoAnswersIsDisconnected(t *testing.T) {
	t.Parallel()
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	s.gateway()
	conn := s.dial()
	begun := time.Now()
	// More and more answers than all buffers on the way hold, until nobody
	// reads the requests either, and until the connection breaks.
	for {
		if _, err := io.WriteString(conn, "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			break
		}
	}
	require.Less(t, time.Since(begun), patience)
}

func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	t.Parallel()
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	s.gateway("LOVAGE_MAX_CONNECTIONS=10")
	http.DefaultClient.CloseIdleConnections()
	ask := func(conn net.Conn, patience time.Duration) error {
		_, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err = bufio.NewReader(conn).Peek(1)
		return err
	}
	var open []net.Conn
	for range 9 { // and one of the client that has waited for the gateway
		conn := s.dial()
		require.NoError(t, ask(conn, patience))
		open = append(open, conn)
	}
	extra, more := s.dial(), s.dial()
	_ = ask(extra, time.Second) // the place of that client, or none
	require.Error(t, ask(more, time.Second))
	for _, conn := range open {
		require.NoError(t, conn.Close())
	}
	require.NoError(t, more.SetReadDeadline(time.Now().Add(patience)))
	_, err := bufio.NewReader(more).Peek(1)
	require.NoError(t, err, "it has waited for its turn")
}

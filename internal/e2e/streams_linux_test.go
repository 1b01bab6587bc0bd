package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// rawStream is an event stream without anything that a client of net/http would
// hold.
type rawStream struct {
	conn  net.Conn
	lines *bufio.Reader
}

// openStream returns when the first event has come.
func (s *stack) openStream(path string) (*rawStream, error) {
	u, err := url.Parse(s.url)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, u.Host); err != nil {
		return nil, err
	}
	r := &rawStream{conn: conn, lines: bufio.NewReaderSize(conn, 512)}
	return r, r.await("data: ")
}

// await reads until a line that contains the text.
func (r *rawStream) await(text string) error {
	for {
		line, err := r.lines.ReadString('\n')
		if strings.Contains(line, text) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("no %q: %w", text, err)
		}
	}
}

// resident is what a process has in memory.
func (p *process) resident() int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	_, rest, found := strings.Cut(string(text), "VmRSS:")
	require.True(p.t, found)
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(p.t, err)
	return kib << 10
}

// submitMany submits tasks that nobody runs and returns their ids.
func (s *stack) submitMany(n int) (ids []string) {
	s.t.Helper()
	w := s.worker()
	s.steer("default", "pause")
	w.await("paused queues changed")
	line := `{"task":"sleep_task","kwargs":{"duration":1},"options":{"queue":"default"}}` + "\n"
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/v1/batches", strings.NewReader(strings.Repeat(line, n)))
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	for d := json.NewDecoder(res.Body); ; {
		var answer struct {
			Status int
			TaskID string `json:"task_id"`
		}
		err := d.Decode(&answer)
		if err == io.EOF {
			require.Len(s.t, ids, n)
			return ids
		}
		require.NoError(s.t, err)
		require.Equal(s.t, http.StatusAccepted, answer.Status)
		ids = append(ids, answer.TaskID)
	}
}

// One gateway holds 10,000 open streams, each of another task, in less than 350
// MB, over one subscribed connection to Redis. Each hears of its task. By day
// it is fewer streams, with the same bound for each.
func TestManyOpenStreams(t *testing.T) {
	const most, own = 350 << 20, 50 << 20
	n := 2000
	if nightly() {
		n = 10_000
	}
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	gateway := s.gateway("LOVAGE_MAX_CONNECTIONS=20000", "LOVAGE_MAX_STREAMS=10000", "LOVAGE_MAX_STREAMS_PER_CALLER=10000")
	ids := s.submitMany(n)
	before := gateway.resident()
	streams := make([]*rawStream, n)
	var g errgroup.Group
	g.SetLimit(64)
	for i, id := range ids {
		g.Go(func() (err error) {
			streams[i], err = s.openStream("/v1/tasks/" + id + "/events")
			return err
		})
	}
	err := g.Wait()
	t.Cleanup(func() {
		for _, one := range streams {
			if one != nil {
				_ = one.conn.Close()
			}
		}
	})
	require.NoError(t, err)
	open := gateway.resident()
	t.Logf("%d streams: %d MB, without them %d MB: %d bytes each", n, open>>20, before>>20, (open-before)/n)
	require.Less(t, own+(open-before)/n*10_000, most, "10,000 such streams and what the gateway needs itself")
	require.Less(t, open, most)

	for i := 0; i < n; i += n / 20 {
		status, body := s.do(http.MethodPost, "/v1/tasks/"+ids[i]+"/cancel", nil, nil)
		require.Equal(t, http.StatusOK, status, string(body))
		require.NoError(t, streams[i].await(`"state":"REVOKED"`))
	}
}

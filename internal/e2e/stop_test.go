package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// submitter submits envelopes one after the other and remembers what became of
// them.
type submitter struct {
	client   *http.Client
	url      string
	keeps    bool // its connection
	accepted []string
	closed   bool // the last answer ended the connection
	err      error
}

func newSubmitter(url string, keeps bool) *submitter {
	return &submitter{
		client: &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: !keeps}}, url: url, keeps: keeps,
	}
}

// run goes on until it would have to open a connection after gone is closed.
func (s *submitter) run(ctx context.Context, gone <-chan struct{}) {
	defer s.client.CloseIdleConnections()
	for s.err == nil {
		select {
		case <-gone:
			if !s.keeps || s.closed {
				return
			}
		default:
		}
		s.err = s.submit(ctx)
	}
}

func (s *submitter) submit(ctx context.Context) error {
	id := messages.NewID()
	body := fmt.Sprintf(`{"task":"sleep_task","kwargs":{"duration":1},"options":{"queue":"default","task_id":%q}}`, id)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/tasks", bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.GetBody = nil // nothing is sent again behind our back
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusAccepted {
		return fmt.Errorf("answered %s: %s", res.Status, text)
	}
	s.closed = res.Close
	s.accepted = append(s.accepted, id)
	return nil
}

// withoutWorkers makes the queue of the built-in tasks, with nobody to work in
// it.
func (s *stack) withoutWorkers() {
	s.t.Helper()
	w := s.worker()
	w.signal(syscall.SIGTERM)
	require.Equal(s.t, 0, w.exit())
}

// waiting returns the ids of the messages in a queue.
func (s *stack) waiting(queue string) map[string]int {
	s.t.Helper()
	ch := s.channel()
	ids := map[string]int{}
	for {
		d, ok, err := ch.Get(queue, true)
		require.NoError(s.t, err)
		if !ok {
			return ids
		}
		ids[d.Headers["id"].(string)]++
	}
}

func TestStoppingGatewayLosesNothingAndCutsNobodyOff(t *testing.T) {
	t.Parallel()
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	g := s.gateway("LOVAGE_SHUTDOWN_DELAY=2s")
	s.withoutWorkers()

	gone := make(chan struct{})
	var all sync.WaitGroup
	var clients []*submitter
	for i := range 32 {
		c := newSubmitter(s.url, i%2 == 0)
		clients = append(clients, c)
		all.Go(func() { c.run(t.Context(), gone) })
	}
	require.Eventually(t, func() bool { // they are at it
		_, body := s.do(http.MethodGet, "/metrics", nil, nil)
		return bytes.Contains(body, []byte(`lovage_submissions_total{outcome="accepted"}`)) &&
			!bytes.Contains(body, []byte("lovage_submissions_total{outcome=\"accepted\"} 0\n"))
	}, patience, 20*time.Millisecond)
	g.signal(syscall.SIGTERM)
	s.eventually(func() bool {
		status, body := s.do(http.MethodGet, "/readyz", nil, nil)
		return status == http.StatusServiceUnavailable && bytes.Contains(body, []byte(`"draining"`))
	}, "readyz says that the gateway stops, over a new connection or an old one")
	last := newSubmitter(s.url, true)
	require.NoError(t, last.submit(t.Context()), "who has not heard of it is served")
	require.True(t, last.closed, "and told that the connection ends")
	close(gone)
	all.Wait()
	require.Equal(t, 0, g.exit())

	arrived := s.waiting("default")
	submitted := len(last.accepted)
	for _, c := range clients {
		require.NoError(t, c.err)
		require.NotEmpty(t, c.accepted)
		for _, id := range c.accepted {
			require.Equal(t, 1, arrived[id], "a task that was accepted")
		}
		submitted += len(c.accepted)
	}
	require.Len(t, arrived, submitted)
}

func TestStoppingGatewayWaitsForTheConfirmOfWhatIsInFlight(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	s := &stack{t: t, amqp: broker.URL(), redis: devstack.Redis(t)}
	g := s.gateway()
	s.withoutWorkers()
	require.NoError(t, broker.Freeze())
	id := messages.NewID()
	answered := make(chan int, 1)
	go func() {
		envelope := json.RawMessage(`{"task":"sleep_task","kwargs":{"duration":1},"options":{"queue":"default","task_id":"` + id + `"}}`)
		status, _ := s.do(http.MethodPost, "/v1/tasks", envelope, http.Header{"Request-Timeout": {"20"}})
		answered <- status
	}()
	s.eventually(func() bool {
		_, body := s.do(http.MethodGet, "/metrics", nil, nil)
		return bytes.Contains(body, []byte("lovage_submissions_in_flight 1\n"))
	}, "it is in flight")
	g.signal(syscall.SIGTERM)
	g.await("gateway stops")
	require.Empty(t, answered)
	require.NoError(t, broker.Thaw())
	require.Equal(t, http.StatusAccepted, <-answered)
	require.Equal(t, 0, g.exit())
	require.Positive(t, s.waiting("default")[id], "sent twice perhaps, and run once")
}

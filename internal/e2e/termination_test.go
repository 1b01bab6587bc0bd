package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/internal/manifests"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// endpointLag is how long Kubernetes goes on sending requests to a pod that it has
// told to stop.
const endpointLag = 5 * time.Second

// endpoints are the gateways behind a Service.
type endpoints struct {
	mu   sync.Mutex
	urls []string
	next int
}

// pick returns them in turn, as a new connection would get them.
func (e *endpoints) pick() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next++
	return e.urls[e.next%len(e.urls)]
}

func (e *endpoints) remove(url string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.urls = slices.DeleteFunc(e.urls, func(u string) bool { return u == url })
}

// caller submits tasks through a Service until it is told to stop. One that keeps
// its connection stays with its gateway until that ends the connection.
type caller struct {
	service  *endpoints
	keeps    bool
	accepted []string
	err      error
}

func (c *caller) run(ctx context.Context, stop <-chan struct{}) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: !c.keeps}}
	defer client.CloseIdleConnections()
	pace := time.NewTicker(300 * time.Millisecond)
	defer pace.Stop()
	url := c.service.pick()
	for n := 0; c.err == nil; n++ {
		closed := false
		closed, c.err = c.submit(ctx, client, url, n)
		if closed || !c.keeps {
			url = c.service.pick()
		}
		select {
		case <-stop:
			return
		case <-pace.C:
		}
	}
}

// submit submits one task, every fifth a long one. It tells whether the answer has
// ended the connection.
func (c *caller) submit(ctx context.Context, client *http.Client, url string, n int) (closed bool, err error) {
	id, duration := messages.NewID(), 1
	if n%5 == 0 {
		duration = 4
	}
	body := fmt.Appendf(nil, `{"task":"sleep_task","kwargs":{"duration":%d},"options":{"queue":"default","task_id":%q}}`, duration, id)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/tasks", bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.GetBody = nil // nothing is sent again behind our back
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Request-Timeout", "20")
	res, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return false, err
	}
	if res.StatusCode != http.StatusAccepted {
		return false, fmt.Errorf("answered %s: %s", res.Status, text)
	}
	c.accepted = append(c.accepted, id)
	return res.Close, nil
}

// Under load a gateway and a worker of two are told to stop, as Kubernetes does it:
// the gateway gets new connections for five seconds more. Nobody is refused or cut
// off, every task that was accepted succeeds, and none has lost an attempt, not
// even those that the worker had to interrupt.
func TestTerminationUnderLoadIsNoticedByNobody(t *testing.T) {
	t.Parallel()
	pod, err := manifests.Read("../..", "overlays/production", "gateway")
	require.NoError(t, err)
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	stays := s.gateway()
	stops := s.gateway("LOVAGE_SHUTDOWN_DELAY=" + pod.Settings["LOVAGE_SHUTDOWN_DELAY"])
	leaving := s.url
	s.url = "http://" + stays.await("gateway listens")["address"].(string)
	s.worker("LOVAGE_CONCURRENCY=100")
	worker := s.worker("LOVAGE_CONCURRENCY=100", "LOVAGE_DRAIN=2s") // shorter than the long tasks

	service := &endpoints{urls: []string{s.url, leaving}}
	stop := make(chan struct{})
	var all sync.WaitGroup
	callers := make([]*caller, 16)
	for i := range callers {
		callers[i] = &caller{service: service, keeps: i%2 == 0}
		all.Go(func() { callers[i].run(t.Context(), stop) })
	}
	s.eventually(func() bool {
		var list struct {
			Workers []struct {
				Busy int `json:"busy"`
			} `json:"workers"`
		}
		s.get("/v1/workers", &list)
		busy := 0
		for _, w := range list.Workers {
			busy += min(w.Busy, 1)
		}
		return busy == 2
	}, "both workers are at work")

	stops.signal(syscall.SIGTERM)
	worker.signal(syscall.SIGTERM)
	told := time.Now()
	<-time.After(endpointLag)
	service.remove(leaving)
	require.Equal(t, 0, stops.exit())
	require.Equal(t, 0, worker.exit())
	require.Less(t, time.Since(told), pod.Grace, "it would have been killed")
	close(stop)
	all.Wait()
	for _, c := range callers {
		require.NoError(t, c.err)
		require.NotEmpty(t, c.accepted)
		for _, id := range c.accepted {
			require.Zero(t, s.await(id, "SUCCESS").Retries, "%s has lost an attempt", id)
		}
	}
}

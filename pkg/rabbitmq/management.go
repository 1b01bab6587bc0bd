package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	managementTimeout = 4 * time.Second
	// managementMost bounds an answer of the management API: 200 bytes a queue.
	managementMost = 8 << 20
	// historiesMost bounds how many queues have a history.
	historiesMost = 1000
)

// management reads the queues of one virtual host from the management API. It is
// not safe for concurrent use.
type management struct {
	opts      Options
	base      *url.URL
	client    *http.Client
	histories map[string]*history
}

func newManagement(o Options, address string) (*management, error) {
	base, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, errors.New("is not of the form http://user:password@host:port")
	}
	transport := &http.Transport{MaxIdleConns: 1, IdleConnTimeout: time.Minute}
	if base.Scheme == "https" {
		if transport.TLSClientConfig, err = o.tlsConfig(base.Hostname()); err != nil {
			return nil, err
		}
	}
	return &management{
		opts: o, base: base, histories: map[string]*history{},
		client: &http.Client{Transport: transport, Timeout: managementTimeout},
	}, nil
}

// managedQueue is a queue as the management API shows it. A queue that is being
// recovered has no counts.
type managedQueue struct {
	Name      string `json:"name"`
	Ready     *int   `json:"messages_ready"`
	Unacked   *int   `json:"messages_unacknowledged"`
	Consumers *int   `json:"consumers"`
	Counts    counts `json:"message_stats"`
}

// counts are what has become of messages. A queue without any has an empty list in
// their place.
type counts struct{ ack float64 }

// UnmarshalJSON reads both.
func (c *counts) UnmarshalJSON(text []byte) error {
	if text[0] != '{' {
		return nil
	}
	var object struct {
		Ack float64 `json:"ack"`
	}
	err := json.Unmarshal(text, &object)
	c.ack = object.Ack
	return err
}

// look reads all queues, and adds up what is delayed.
func (m *management) look(ctx context.Context) (map[string]messages.QueueStats, *int, error) {
	queues, err := m.queues(ctx)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	ready := make(map[string]*int, len(queues))
	delayed := 0
	for _, q := range queues {
		ready[q.Name] = q.Ready
		if isDelay(q.Name) && q.Ready != nil {
			delayed += *q.Ready
		}
	}
	stats := make(map[string]messages.QueueStats, len(queues))
	seen := make(map[string]*history, len(m.histories))
	for _, q := range queues {
		if messages.ValidQueue(q.Name) != nil {
			continue
		}
		s := messages.QueueStats{Ready: q.Ready, Unacked: q.Unacked, Consumers: q.Consumers, Dead: ready[DeadQueue(q.Name)], At: now}
		if h := m.history(q.Name); h != nil && q.Ready != nil && q.Unacked != nil && len(seen) < historiesMost {
			h.add(sample{at: now, out: q.Counts.ack, in: q.Counts.ack + float64(*q.Ready+*q.Unacked)})
			s.In, s.Out = h.rates()
			s.Oldest = h.oldest(*q.Ready)
			seen[q.Name] = h
		}
		stats[q.Name] = s
	}
	m.histories = seen // those of queues that are gone are forgotten
	return stats, &delayed, nil
}

func (m *management) history(queue string) *history {
	if h := m.histories[queue]; h != nil {
		return h
	}
	return &history{}
}

func (m *management) queues(ctx context.Context) ([]managedQueue, error) {
	addresses, err := m.opts.addresses()
	if err != nil {
		return nil, err
	}
	uri, err := amqp.ParseURI(addresses[0])
	if err != nil {
		return nil, errors.New("parse broker address: not of the form amqp://user:password@host:port/vhost")
	}
	u := m.base.JoinPath("api", "queues", url.PathEscape(uri.Vhost))
	u.RawQuery = url.Values{"columns": {"name,messages_ready,messages_unacknowledged,consumers,message_stats.ack"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, errors.New("ask the management api: the address cannot be used")
	}
	res, err := m.client.Do(req)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // the outer one quotes the address
		}
		return nil, fmt.Errorf("ask the management api: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the management api: it answers %s", res.Status)
	}
	body := &io.LimitedReader{R: res.Body, N: managementMost}
	var queues []managedQueue
	if err := json.NewDecoder(body).Decode(&queues); err != nil {
		if body.N <= 0 {
			return nil, fmt.Errorf("ask the management api: the virtual host has too many queues: the answer has more than %d bytes", managementMost)
		}
		return nil, fmt.Errorf("read the management api: %w", err)
	}
	return queues, nil
}

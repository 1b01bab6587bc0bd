package e2e_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// BenchmarkDeadLetters measures a look at all dead letters of a queue, for its
// groups, and a look at the first page.
func BenchmarkDeadLetters(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := &stack{t: b, amqp: devstack.VHost(b), redis: devstack.Redis(b)}
			g := s.gateway()
			s.idleQueue()
			s.bury(n)
			var groups, page time.Duration
			for b.Loop() {
				groups += s.took("/v1/queues/default/dead-groups")
				page += s.took("/v1/queues/default/dead")
			}
			b.ReportMetric(groups.Seconds()*1000/float64(b.N), "groups-ms")
			b.ReportMetric(page.Seconds()*1000/float64(b.N), "page-ms")
			b.ReportMetric(float64(g.memory()>>20), "gateway-MB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func (s *stack) took(path string) time.Duration {
	s.t.Helper()
	begun := time.Now()
	status, body := s.do(http.MethodGet, path, nil, nil)
	require.Equal(s.t, http.StatusOK, status, "%s", body)
	return time.Since(begun)
}

// bury fills the dead letters of the default queue.
func (s *stack) bury(n int) {
	s.t.Helper()
	ch := s.channel()
	for i := range n {
		m, err := messages.Encode(&messages.Task{
			ID: messages.NewID(), Name: "sleep_task", Queue: "default", Kwargs: fmt.Appendf(nil, `{"duration":%d}`, i),
		})
		require.NoError(s.t, err)
		messages.EncodeDeadLetter(m, messages.DeadLetter{
			Reason: messages.ReasonRetriesExhausted, Error: fmt.Sprintf("Timeout: after %d ms", i), Stack: strings.Repeat("a line of a stack\n", 50),
			Queue: "default", Attempts: 4, Worker: "w", FirstTime: time.Now(), LastTime: time.Now(),
		})
		publishRaw(s.t, ch, "", "default.dead", m)
	}
	s.eventually(func() bool {
		q, err := ch.QueueDeclarePassive("default.dead", true, false, false, false, nil)
		require.NoError(s.t, err)
		return q.Messages == n
	}, "all dead letters are there")
}

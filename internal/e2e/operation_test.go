package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// operation is a redrive of many as the API shows it.
type operation struct {
	State    string
	Redriven int
	Error    *string
	at       string
}

// redriveAll begins to send all dead letters of the default queue again.
func (s *stack) redriveAll(query string) *operation {
	s.t.Helper()
	status, body := s.do(http.MethodPost, "/v1/queues/default/redrive?all=true"+query, nil, http.Header{"Prefer": {"respond-async"}})
	require.Equal(s.t, http.StatusAccepted, status, "%s", body)
	var begun struct{ ID string }
	require.NoError(s.t, json.Unmarshal(body, &begun))
	return &operation{at: "/v1/queues/default/operations/" + begun.ID}
}

// follow waits until the operation is as wanted.
func (s *stack) follow(o *operation, wanted func() bool) {
	s.t.Helper()
	s.eventually(func() bool {
		require.Equal(s.t, http.StatusOK, s.get(o.at, o))
		return wanted()
	}, "the operation at %s", o.at)
}

// graves are the dead letters of the default queue in their order, and the run
// of each, once so many tasks have one.
func (s *stack) graves(n int) (ids []string, runs map[string]int) {
	s.t.Helper()
	s.eventually(func() bool {
		var list struct {
			DeadLetters []struct {
				TaskID string `json:"task_id"`
				Run    int
			} `json:"dead_letters"`
		}
		if s.get("/v1/queues/default/dead?limit=200", &list) != http.StatusOK {
			return false // somebody else looks at them
		}
		ids, runs = nil, map[string]int{}
		for _, l := range list.DeadLetters {
			ids = append(ids, l.TaskID)
			runs[l.TaskID] = l.Run
		}
		return len(runs) == n
	}, "dead letters of %d tasks", n)
	return ids, runs
}

// graveyard starts a gateway, and a worker for which so many tasks fail, now and
// whenever they are sent again.
func (s *stack) graveyard(n int) (g *process, ids []string) {
	s.t.Helper()
	g = s.gateway()
	s.worker()
	for i := range n {
		s.stranger(fmt.Sprintf("s%d", i))
	}
	ids, _ = s.graves(n)
	return g, ids
}

func TestARedriveIsCancelledAndBegunAnew(t *testing.T) {
	t.Parallel()
	const many = 30
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	_, all := s.graveyard(many)
	o := s.redriveAll("&rate=10")
	s.follow(o, func() bool { return o.Redriven >= 3 })
	status, body := s.do(http.MethodPost, o.at+"/cancel", nil, nil)
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	s.follow(o, func() bool { return o.State == "cancelled" })
	require.Less(t, o.Redriven, many)

	left, runs := s.graves(many)
	require.Len(t, left, many)
	require.Equal(t, all[o.Redriven:], left[:many-o.Redriven], "what was not sent is in its order")
	for i, id := range all {
		want := 0
		if i < o.Redriven {
			want = 1
		}
		require.Equal(t, want, runs[id], id)
	}

	o = s.redriveAll("")
	s.follow(o, func() bool { return o.State == "done" })
	require.Equal(t, many, o.Redriven, "those that fail again meanwhile are not meant")
	_, again := s.graves(many)
	for id, run := range runs {
		require.Equal(t, run+1, again[id], id)
	}
}

// A gateway that stops, and one that is killed, leave the redrive to the next,
// and each task is sent again once.
func TestARedriveOutlivesItsGateways(t *testing.T) {
	t.Parallel()
	const many = 60
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	g, all := s.graveyard(many)
	o := s.redriveAll("&rate=10")
	s.follow(o, func() bool { return o.Redriven >= 3 })
	g.signal(syscall.SIGTERM)
	require.Equal(t, 0, g.exit())
	g.await("operation given back")

	g = s.gateway()
	stopped := 0
	s.follow(o, func() bool { stopped = o.Redriven; return o.State == "running" })
	require.Less(t, stopped, many)
	s.follow(o, func() bool { return o.Redriven >= stopped+3 })
	g.signal(syscall.SIGKILL)
	g.exit()

	s.gateway()
	s.follow(o, func() bool { return o.State == "done" })
	left, runs := s.graves(many)
	require.ElementsMatch(t, all, left)
	for id, run := range runs {
		require.Equal(t, 1, run, id)
	}
}

// What RabbitMQ forgets of a pass when it dies is sent again as the same run.
func TestARedriveOutlivesTheBroker(t *testing.T) {
	t.Parallel()
	const many = 30
	broker := devstack.RabbitMQ(t)
	s := &stack{t: t, amqp: broker.URL(), redis: devstack.Redis(t)}
	s.graveyard(many)
	o := s.redriveAll("&rate=10")
	s.follow(o, func() bool { return o.Redriven >= 3 })
	require.NoError(t, broker.Kill())
	s.follow(o, func() bool { return o.Error != nil })
	require.Equal(t, "running", o.State)
	require.NoError(t, broker.Start(t.Context()))
	s.follow(o, func() bool { return o.State == "done" })
	letters, runs := s.graves(many)
	for id, run := range runs {
		require.Equal(t, 1, run, "%s of %v, %+v", id, letters, o)
	}
}

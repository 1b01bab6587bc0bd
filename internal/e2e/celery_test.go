package e2e_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// debianPython is the interpreter that Debian's python3-celery belongs to.
const debianPython = "/usr/bin/python3"

func TestACeleryClientGetsItsResultsFromOurWorker(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.start("celeryworker").await("consumer connected")

	cmd := exec.CommandContext(t.Context(), debianPython, "testdata/client.py")
	cmd.Env = append(os.Environ(), "LOVAGE_AMQP_URL="+s.amqp, "LOVAGE_REDIS_URL="+s.redis)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var got map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(out, &got), "%s", out)

	text := `"naïve 日本 🌿 \u0000 \"quoted\""`
	for name, want := range map[string]string{
		"args":          `{"a": 1, "b": [2, {"x": null}]}`,
		"kwargs":        `{"a": ` + text + `}`,
		"null":          `null`,
		"empty":         `[[], {}, ""]`,
		"compressed":    text,
		"long header":   `1`,
		"exception":     `{"type": "Error", "args": ["no such customer: Zoë"]}`,
		"retry":         `3`,
		"big":           `200000`,
		"small":         `"xxxxxxxxxx"`,
		"expires":       `["revoked", "expired", "REVOKED"]`,
		"ignore_result": `"PENDING"`,
		"many":          `4950`,
	} {
		require.JSONEq(t, want, string(got[name]), name)
	}
	require.Equal(t, "[1.5, 1e+300, -0.1, 3.0]", string(got["float"]), "to the letter")
	require.Equal(t, "9223372036854775809", string(got["bigint"]), "to the letter")
	require.Contains(t, string(got["unknown"]), "NotRegistered")
	var packed [2]any
	require.NoError(t, json.Unmarshal(got["packed"], &packed))
	require.Equal(t, true, packed[1], "%s", got["packed"])
	id, _ := packed[0].(string)
	require.Len(t, string(s.task(id).Result), 200_002, "the API shows the plain result")
	var late float64
	require.NoError(t, json.Unmarshal(got["eta"], &late))
	require.GreaterOrEqual(t, late, 0.0, "never early")
	require.Less(t, late, 10.0)
}

func TestACeleryWorkerRunsWhatOurGatewayWasGiven(t *testing.T) {
	t.Parallel()
	s := newStack(t, "LOVAGE_FOREIGN_QUEUES=celery")
	_, err := s.channel().QueueDeclare("celery", true, false, false, false, nil)
	require.NoError(t, err)
	late := s.envelope(json.RawMessage(`{"task": "proj.echo", "options": {"queue": "celery", "expires": 0.1}}`))
	<-time.After(200 * time.Millisecond)
	celery := s.celeryWorker()

	for name, tc := range map[string]struct{ envelope, want string }{
		"kwargs, unicode, null and floats": {
			`{"task": "proj.echo", "args": ["日本", null], "kwargs": {"x": 1.5, "y": {"z": []}}, "options": {"queue": "celery"}}`,
			`{"state": "SUCCESS", "result": {"args": ["日本", null], "kwargs": {"x": 1.5, "y": {"z": []}}}}`,
		},
		"an exception with arguments": {
			`{"task": "proj.fail", "args": ["sku-7", 3], "options": {"queue": "celery"}}`,
			`{"state": "FAILURE", "error": {"type": "OutOfStock", "args": ["sku-7", 3]}}`,
		},
		"a retry": {
			`{"task": "proj.flaky", "args": [2], "options": {"queue": "celery"}}`,
			`{"state": "SUCCESS", "result": 2, "retries": 2}`,
		},
		"a time to start at": {
			`{"task": "proj.echo", "options": {"queue": "celery", "countdown": 0.5}}`,
			`{"state": "SUCCESS", "result": {"args": [], "kwargs": {}}}`,
		},
		"an expiry in time": {
			`{"task": "proj.echo", "options": {"queue": "celery", "countdown": 1.5, "expires": 2.5}}`,
			`{"state": "SUCCESS", "result": {"args": [], "kwargs": {}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := s.envelope(json.RawMessage(tc.envelope))
			got := s.awaitFinal(id)
			var want map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(tc.want), &want))
			for field, v := range want {
				requireSubset(t, string(v), string(got[field]), field)
			}
		})
	}
	t.Run("a large result", func(t *testing.T) {
		t.Parallel()
		got := s.awaitFinal(s.envelope(json.RawMessage(`{"task": "proj.big", "args": [200000], "options": {"queue": "celery"}}`)))
		require.Len(t, string(got["result"]), 200_002)
	})
	t.Run("time limits in Celery's order", func(t *testing.T) {
		t.Parallel()
		got := s.awaitFinal(s.envelope(json.RawMessage(
			`{"task": "proj.limits", "options": {"queue": "celery", "time_limit": 9, "soft_time_limit": 5, "task_id": "limits-1"}}`)))
		require.JSONEq(t, `{"timelimit": [9, 5], "root": "limits-1", "id": "limits-1"}`, string(got["result"]))
	})
	t.Run("a result that nobody wants", func(t *testing.T) {
		t.Parallel()
		id := s.envelope(json.RawMessage(`{"task": "proj.ignored", "options": {"queue": "celery", "ignore_result": true}}`))
		celery.awaitText("Task proj.ignored[" + id + "] succeeded")
		status, _ := s.do(http.MethodGet, "/v1/tasks/"+id, nil, nil)
		require.Equal(t, http.StatusNotFound, status)
	})
	t.Run("an expiry that is over", func(t *testing.T) {
		t.Parallel()
		got := s.awaitFinal(late)
		require.Equal(t, `"REVOKED"`, string(got["state"]))
		requireSubset(t, `{"type": "TaskRevokedError", "message": "expired"}`, string(got["error"]), "error")
	})
}

// requireSubset compares only those fields of an object that are wanted.
func requireSubset(t *testing.T, want, got, field string) {
	t.Helper()
	var w, g map[string]json.RawMessage
	if !strings.HasPrefix(want, "{") || json.Unmarshal([]byte(got), &g) != nil {
		require.JSONEq(t, want, got, field)
		return
	}
	require.NoError(t, json.Unmarshal([]byte(want), &w))
	for k, v := range w {
		require.JSONEq(t, string(v), string(g[k]), "%s.%s", field, k)
	}
}

// celeryWorker starts a Celery worker on a classic queue of its own.
func (s *stack) celeryWorker() *process {
	s.t.Helper()
	cmd := exec.Command(debianPython, "-m", "celery", "-A", "proj", "worker", "-P", "threads", "-c", "4", //nolint:noctx // ended by signal
		"-Q", "celery", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO")
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "LOVAGE_AMQP_URL="+s.amqp, "LOVAGE_REDIS_URL="+s.redis, "PYTHONDONTWRITEBYTECODE=1")
	p := s.launch("celery", cmd)
	p.awaitText("ready.")
	return p
}

func (s *stack) envelope(body json.RawMessage) string {
	s.t.Helper()
	status, out := s.do(http.MethodPost, "/v1/tasks", body, patient())
	require.Equal(s.t, http.StatusAccepted, status, "%s", out)
	var v view
	require.NoError(s.t, json.Unmarshal(out, &v))
	return v.TaskID
}

func (s *stack) awaitFinal(id string) map[string]json.RawMessage {
	s.t.Helper()
	var v map[string]json.RawMessage
	s.eventually(func() bool {
		v = nil
		s.get("/v1/tasks/"+id, &v)
		switch string(v["state"]) {
		case `"SUCCESS"`, `"FAILURE"`, `"REVOKED"`:
			return true
		}
		return false
	}, "task %s ends", id)
	return v
}

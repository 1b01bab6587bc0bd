package e2e_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

// An accepted callback is made although the gateway that took it is dead when
// the task ends.
func TestACallbackIsMadeAfterItsGatewayHasDied(t *testing.T) {
	t.Parallel()
	calls := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- r.Header.Get("webhook-id") + " " + string(body)
	}))
	t.Cleanup(hook.Close)
	env := []string{"LOVAGE_CALLBACK_ALLOW=127.0.0.1", "LOVAGE_CALLBACK_SECRET=whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))}
	s := newStack(t)
	s.worker()
	dying := s.gateway(env...)
	c := &client.Client{BaseURL: s.url}
	task, err := c.Submit(t.Context(), "sleep_task", map[string]any{"duration": 2}, client.Options{CallbackURL: hook.URL + "/done", Timeout: 20 * time.Second})
	require.NoError(t, err)
	dying.signal(syscall.SIGKILL)

	s.gateway(env...)
	c = &client.Client{BaseURL: s.url}
	select {
	case told := <-calls:
		require.Contains(t, told, `"type":"task.succeeded"`)
		require.Contains(t, told, task.TaskID)
	case <-time.After(patience):
		require.FailNow(t, "nobody called")
	}
	s.eventually(func() bool {
		got, err := c.Callback(t.Context(), task.TaskID)
		return err == nil && got.State == "delivered" && got.Attempts == 1 && got.Latest[0].Status == http.StatusOK
	}, "the attempt is shown")
}

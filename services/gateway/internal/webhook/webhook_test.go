package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// bench is a store, and a place that is called back.
type bench struct {
	t      *testing.T
	client redis.UniversalClient
	store  *results.Store
	url    string
	calls  chan called
	allow  []string
}

// called is a call with its body.
type called struct {
	*http.Request
	body []byte
}

func newBench(t *testing.T, answers ...int) *bench {
	t.Helper()
	client, err := results.Open(devstack.Redis(t) + "?read_timeout=20s&write_timeout=20s&dial_timeout=20s&pool_timeout=20s")
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	b := &bench{t: t, client: client, store: results.New(results.Options{Client: client}), calls: make(chan called, 100), allow: []string{"127.0.0.1"}}
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.calls <- called{r, body}
		mu.Lock()
		status := http.StatusNoContent
		if len(answers) > 0 {
			status, answers = answers[0], answers[1:]
		}
		mu.Unlock()
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func secret() Secret { return Secret(strings.Repeat("s", 32)) }

// sender runs one as a gateway does; stop ends it.
func (b *bench) sender() (s *Sender, stop func()) {
	b.t.Helper()
	allow, err := outbound.ParseAllowList("LOVAGE_CALLBACK_ALLOW", b.allow)
	require.NoError(b.t, err)
	watcher := results.NewWatcher(b.client, nil)
	s = New(Options{
		Store: b.store, Watcher: watcher, Allow: allow, Secrets: func() ([]Secret, error) { return []Secret{secret(), Secret("another secret of 32 bytes......")}, nil },
		Keep: time.Hour, Retention: time.Hour, Log: zaptest.NewLogger(b.t),
	})
	s.waits = []time.Duration{time.Millisecond, time.Millisecond}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = watcher.Run(ctx) })
	running.Go(func() { _ = s.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	b.t.Cleanup(stop)
	return s, stop
}

// end writes the outcome of a task, as a worker does.
func (b *bench) end(id string, state messages.State) {
	b.t.Helper()
	a := messages.Attempt{ID: id}
	_, err := b.store.Claim(b.t.Context(), a, "token", nil)
	require.NoError(b.t, err)
	r := &messages.Result{TaskID: id, State: state, Name: "n", Queue: "q", DateDone: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if state == messages.Success {
		r.Value = json.RawMessage(`{"a":1}`)
	}
	require.NoError(b.t, b.store.Settle(b.t.Context(), results.Settlement{Attempt: a, Token: "token", Result: r}))
}

// call waits for a call.
func (b *bench) call() (*http.Request, []byte) {
	b.t.Helper()
	select {
	case r := <-b.calls:
		return r.Request, r.body
	case <-time.After(patience):
		require.FailNow(b.t, "nobody called")
		return nil, nil
	}
}

// state waits for the state of the callback of t1.
func (b *bench) state(s *Sender, want api.CallbackState) *api.Callback {
	b.t.Helper()
	var got *api.Callback
	require.Eventually(b.t, func() bool {
		var err error
		got, err = s.Get(b.t.Context(), "t1")
		return err == nil && got.State == want
	}, patience, time.Millisecond, "%+v", got)
	return got
}

func (b *bench) promise(s *Sender, id string) {
	b.t.Helper()
	kept, err := s.Promise(b.t.Context(), id, b.url+"/hook?key=secret", time.Time{})
	require.NoError(b.t, err)
	require.True(b.t, kept)
}

func TestTheEndOfATaskIsToldSigned(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s, _ := b.sender()
	b.promise(s, "t1")
	require.Equal(t, api.CallbackWaiting, b.state(s, api.CallbackWaiting).State)
	b.end("t1", messages.Success)
	r, body := b.call()
	require.Equal(t, "/hook?key=secret", r.URL.String())
	require.Equal(t, http.MethodPost, r.Method)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))

	var told struct {
		Type      string
		Timestamp time.Time
		Data      map[string]any
	}
	require.NoError(t, json.Unmarshal(body, &told))
	require.Equal(t, "task.succeeded", told.Type)
	require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), told.Timestamp)
	require.Equal(t, "t1", told.Data["task_id"])
	require.Equal(t, map[string]any{"a": 1.0}, told.Data["result"])

	id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, []byte(strings.Repeat("s", 32)))
	mac.Write([]byte(id + "." + at + "." + string(body)))
	signatures := strings.Fields(r.Header.Get("webhook-signature"))
	require.Len(t, signatures, 2, "by the old secret as well")
	require.Equal(t, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)), signatures[0])

	c := b.state(s, api.CallbackDelivered)
	require.Equal(t, b.url+"/hook", c.URL, "a query may hold a secret")
	require.Equal(t, id, c.WebhookID)
	require.Equal(t, 1, c.Attempts)
	require.Equal(t, http.StatusNoContent, *c.Latest[0].Status)
	require.Nil(t, c.NextAttempt)
	require.Zero(t, b.client.ZCard(t.Context(), "lovage:{callbacks}:due").Val())
}

func TestTheSignatureIsThatOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	secrets, err := ParseSecrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		sign(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)), "the example of the specification")
}

func TestEachEndHasAName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s, _ := b.sender()
	for state, want := range map[messages.State]string{messages.Failure: "task.failed", messages.Revoked: "task.revoked"} {
		b.promise(s, string(state))
		b.end(string(state), state)
		_, body := b.call()
		require.Contains(t, string(body), `"type":"`+want+`"`)
	}
}

func TestACallThatFailsIsMadeAgainWithTheSameID(t *testing.T) {
	t.Parallel()
	b := newBench(t, http.StatusInternalServerError, http.StatusFound)
	s, _ := b.sender()
	b.promise(s, "t1")
	b.end("t1", messages.Success)
	var ids, bodies []string
	for range 3 {
		r, body := b.call()
		ids, bodies = append(ids, r.Header.Get("webhook-id")), append(bodies, string(body))
	}
	require.Equal(t, []string{ids[0], ids[0], ids[0]}, ids)
	require.Equal(t, bodies[0], bodies[2])
	c := b.state(s, api.CallbackDelivered)
	require.Equal(t, 3, c.Attempts)
	require.Equal(t, "500 Internal Server Error", c.Latest[0].Error)
	require.Contains(t, c.Latest[1].Error, "redirects are not followed")
	require.Empty(t, c.Latest[2].Error)
}

func TestACallbackIsGivenUpInTheEnd(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string][]int{"tries": {500, 500, 500}, "gone": {410}} {
		b := newBench(t, answers...)
		s, _ := b.sender()
		b.promise(s, "t1")
		b.end("t1", messages.Success)
		c := b.state(s, api.CallbackFailed)
		require.Equal(t, len(answers), c.Attempts, name)
		require.Zero(t, b.client.ZCard(t.Context(), "lovage:{callbacks}:due").Val())
	}
}

func TestACallbackOutlivesItsGateway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s, stop := b.sender()
	b.promise(s, "t1")
	stop()
	b.end("t1", messages.Success)
	other, _ := b.sender()
	b.call()
	b.state(other, api.CallbackDelivered)
}

func TestTheFirstPromiseStands(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s, _ := b.sender()
	b.promise(s, "t1")
	kept, err := s.Promise(t.Context(), "t1", b.url+"/other", time.Time{})
	require.NoError(t, err)
	require.False(t, kept)
	s.Forget(t.Context(), "t1")
	_, err = s.Get(t.Context(), "t1")
	require.ErrorIs(t, err, messages.ErrNotFound)
	b.promise(s, "t1")
}

func TestOnlyAllowedHostsAreCalled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s, _ := b.sender()
	require.NoError(t, s.Check("https://127.0.0.1/x"))
	for _, wrong := range []string{"https://example.com/", "ftp://127.0.0.1/", "http://user:pw@127.0.0.1/", "http://a b/", "/x", "http://169.254.169.254/latest"} {
		require.Error(t, s.Check(wrong), wrong)
	}
	b.allow = []string{"localhost.test"}
	kept, err := s.Promise(t.Context(), "t1", "http://192.0.2.1/", time.Time{}) // as if it was allowed then
	require.NoError(t, err)
	require.True(t, kept)
	b.end("t1", messages.Success)
	c := b.state(s, api.CallbackFailed)
	require.Contains(t, c.Latest[0].Error, "LOVAGE_CALLBACK_ALLOW")
	require.Empty(t, b.calls)
}

func TestNothingIsCalledWhereNoHostIsAllowed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.allow = nil
	s, stop := b.sender()
	require.ErrorContains(t, s.Check(b.url), "LOVAGE_CALLBACK_ALLOW")
	stop()
}

func TestSecretsAreChecked(t *testing.T) {
	t.Parallel()
	good := secretPrefix + base64.StdEncoding.EncodeToString(make([]byte, 24))
	secrets, err := ParseSecrets(good + ", " + good + "\n" + good + "\n")
	require.NoError(t, err)
	require.Len(t, secrets, 3)
	for _, wrong := range []string{"", " ", "x", strings.TrimPrefix(good, secretPrefix), good + ",whsec_!", secretPrefix + base64.StdEncoding.EncodeToString(make([]byte, 23))} {
		_, err := ParseSecrets(wrong)
		require.Error(t, err, wrong)
	}
}

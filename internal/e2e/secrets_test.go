package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// A run in which everything happens that can be logged, and nothing of what is
// secret is found in anything that the programs say.
func TestNothingSaysASecret(t *testing.T) {
	t.Parallel()
	const amqpPassword, redisPassword, payload = "geheim-amqp-5d1", "geheim-redis-7f2", "geheim-payload-9c3"
	broker, store := devstack.RabbitMQ(t), devstack.RedisServer(t)
	for _, args := range [][]string{{"add_user", "lovage", amqpPassword}, {"set_permissions", "lovage", ".*", ".*", ".*"}} {
		_, err := broker.Ctl(t.Context(), args...)
		require.NoError(t, err)
	}
	s := &stack{t: t, amqp: strings.Replace(broker.URL(), "guest:guest@", "lovage:"+amqpPassword+"@", 1)}
	s.redis = setPassword(t, store, redisPassword)
	file := filepath.Join(t.TempDir(), "redis")
	require.NoError(t, os.WriteFile(file, []byte(s.redis+"\n"), 0o600))
	s.lovageEnv = []string{"LOVAGE_REDIS_URL_FILE=" + file}
	key := s.newKey("ada", "--scope", "admin")
	other := s.newKey("bob", "--scope", "submit")
	secrets := map[string]string{"AMQP": amqpPassword, "Redis": redisPassword, "payload": payload, "key": secretOf(key), "other key": secretOf(other)}
	s.lovageEnv = append(s.lovageEnv, "LOVAGE_API_KEY="+key)

	const debug, keys = "LOVAGE_LOG_LEVEL=debug", "LOVAGE_API_KEYS_REDIS=true"
	pprof := freeAddress(t)
	s.header = http.Header{"Authorization": {"Bearer " + key}}
	gateway := s.gateway(debug, keys, "LOVAGE_PPROF_LISTEN="+pprof, "LOVAGE_REDIS_URL_FILE="+file, "LOVAGE_RATE_LIMIT=100000")
	worker := s.worker(debug, "LOVAGE_DRAIN=1s", "LOVAGE_METRICS_LISTEN="+freeAddress(t))
	var said []string
	note := func(text string) { said = append(said, text) }
	ask := func(method, path string, body any, header http.Header) string {
		status, answer := s.do(method, path, body, header)
		note(fmt.Sprintf("%s: %d %s", method, status, answer))
		return string(answer)
	}

	id := s.sleep(1, "")
	s.await(id, "SUCCESS")
	for _, path := range []string{"/readyz", "/metrics", "/v1/tasks", "/v1/tasks/" + id, "/v1/workers", "/v1/queues", "/v1/audit", "/openapi.json", "/nowhere", "/v1/catalog?access_token=" + key} {
		if answer := ask(http.MethodGet, path, nil, nil); path == "/v1/workers" {
			require.Contains(t, answer, "default")
		}
	}
	ask(http.MethodPost, "/v1/tasks/sleep_task", map[string]any{"duration": payload}, nil)
	ask(http.MethodPost, "/v1/tasks/http_request", map[string]any{"url": "http://user:" + payload + "@localhost/", "headers": map[string]string{"Authorization": payload}}, nil)
	ask(http.MethodPost, "/v1/tasks", map[string]any{"task": "unknown." + id, "kwargs": map[string]string{"password": payload}, "options": map[string]any{"queue": "default"}}, nil)
	ask(http.MethodPost, "/v1/tasks/sleep_task", map[string]any{"duration": 1}, http.Header{"Idempotency-Key": {payload}})
	ask(http.MethodPost, "/v1/queues/default/pause?token="+key, nil, nil)
	ask(http.MethodPost, "/v1/queues/default/resume", nil, nil)
	s.header = http.Header{"Authorization": {"Bearer " + other}}
	ask(http.MethodGet, "/v1/tasks", nil, nil)
	s.header = http.Header{"Authorization": {"Bearer " + key + payload}}
	ask(http.MethodGet, "/v1/tasks", nil, nil)
	s.header = http.Header{"Authorization": {"Bearer " + key}}
	for _, form := range []string{key, key[:30] + payload} {
		note(login(t, s.url, form))
	}
	for _, page := range []string{"", "goroutine?debug=2", "cmdline", "heap?debug=1"} {
		note(fetch(t, "http://"+pprof+"/debug/pprof/"+page))
	}
	for _, args := range [][]string{{"keys", "list"}, {"keys", "list", "-o", "json"}, {"doctor"}, {"list"}, {"--help"}, {"keys", "--help"}, {"keys", "revoke", "bob"}} {
		got := s.lovage(args...)
		note(got.out + got.err)
	}
	for _, name := range []string{"gateway", "worker"} {
		note(sayings(t, s, name, nil, "--help"))
		note(sayings(t, s, name, []string{"LOVAGE_AMQP_URL=://lovage:" + amqpPassword + "@x", "LOVAGE_REDIS_URL=nonsense://:" + redisPassword + "@:x"}))
		note(sayings(t, s, name, []string{"LOVAGE_REDIS_URL=redis://:" + redisPassword + "@127.0.0.1:x/abc"}))
	}

	// Everything is lost, and then found again with another password.
	require.NoError(t, broker.Kill())
	require.NoError(t, store.Kill())
	s.eventually(func() bool { return strings.Contains(fmt.Sprint(gateway.log()), "connect") }, "it is missed")
	ask(http.MethodPost, "/v1/tasks/sleep_task", map[string]any{"duration": 1, "label": payload}, nil)
	ask(http.MethodGet, "/v1/tasks", nil, nil)
	for _, p := range []*process{gateway, worker} {
		p.signal(syscall.SIGTERM)
		<-p.ended
		text, err := json.Marshal(p.log())
		require.NoError(t, err)
		require.Greater(t, len(p.log()), 10)
		note(string(text))
	}
	for what, secret := range secrets {
		for _, text := range said {
			require.NotContains(t, text, secret, "the secret of %s", what)
		}
	}
}

// setPassword makes Redis ask for a password and returns the address with it.
func setPassword(t *testing.T, store *devstack.RedisInstance, password string) string {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: store.Address()})
	defer func() { _ = client.Close() }()
	require.NoError(t, client.ConfigSet(t.Context(), "requirepass", password).Err())
	return "redis://:" + password + "@" + store.Address() + "/0"
}

// secretOf is the part of a key that is secret.
func secretOf(key string) string { return key[strings.LastIndex(key, "_")+1:] }

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := devstack.ReservePort(t.Context(), 0)
	require.NoError(t, err)
	port.Release()
	return port.Address()
}

func fetch(t *testing.T, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	return answerTo(t, req)
}

// login sends the form and returns all that is answered but the session.
func login(t *testing.T, base, key string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/login", strings.NewReader(url.Values{"key": {key}}.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return answerTo(t, req)
}

func answerTo(t *testing.T, req *http.Request) string {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return fmt.Sprint(res.Header, string(body))
}

// sayings runs a program that ends by itself and returns what it says.
func sayings(t *testing.T, s *stack, name string, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binDir, name), args...)
	cmd.Env = append(append(os.Environ(), "LOVAGE_LISTEN=127.0.0.1:0", "LOVAGE_AMQP_URL="+s.amqp, "LOVAGE_REDIS_URL="+s.redis, "LOVAGE_API_KEYS_REDIS=true"), env...)
	out, err := cmd.CombinedOutput()
	if len(args) == 0 {
		require.Error(t, err, "%s", out)
	}
	return string(out)
}

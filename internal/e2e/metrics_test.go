package e2e_test

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestTheWorkerServesItsMetrics(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker("LOVAGE_METRICS_LISTEN=127.0.0.1:0")
	s.await(s.sleep(1, ""), "SUCCESS")
	require.Equal(t, 1, s.count(w, `lovage_claims_total{verdict="run"}`))
	require.Zero(t, s.count(w, `lovage_claims_total{verdict="busy"}`))
	require.Positive(t, s.count(w, "go_goroutines"))
	require.Positive(t, s.count(w, "process_open_fds"))
}

// Every task is counted under its own name if the worker knows that, from its
// submission to its end.
func TestTasksAreCountedByNameAndOutcome(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker("LOVAGE_METRICS_LISTEN=127.0.0.1:0", "LOVAGE_CONCURRENCY=1")
	first := s.sleep(1, "")
	s.await(s.sleep(1, ""), "SUCCESS")
	s.await(first, "SUCCESS")
	s.await(s.sleep(1, "?countdown=0.5"), "SUCCESS")
	for _, of := range []struct {
		name  string
		input map[string]any
	}{{"http_request", map[string]any{"url": "http://192.0.2.1/"}}, {"made_up_by_a_caller", map[string]any{}}} {
		id := messages.NewID()
		status, body := s.do(http.MethodPost, "/v1/tasks", map[string]any{
			"task": of.name, "kwargs": of.input, "options": map[string]any{"queue": "default", "task_id": id},
		}, patient())
		require.Equal(t, http.StatusAccepted, status, "%s", body)
		s.await(id, "FAILURE")
	}
	for name, want := range map[string]int{
		`lovage_task_attempts_started_total{task="sleep_task"}`:              3,
		`lovage_task_attempts_started_total{task="http_request"}`:            1,
		`lovage_task_attempts_interrupted_total{task="sleep_task"}`:          0,
		`lovage_task_retries_total{task="sleep_task"}`:                       0,
		`lovage_tasks_finished_total{outcome="success",task="sleep_task"}`:   3,
		`lovage_tasks_finished_total{outcome="failure",task="http_request"}`: 1,
		`lovage_tasks_finished_total{outcome="failure",task="unknown"}`:      1,
		`lovage_tasks_finished_total{outcome="revoked",task="thumbnail"}`:    0,
		`lovage_task_run_seconds_count{task="sleep_task"}`:                   3,
		`lovage_task_run_seconds_bucket{task="sleep_task",le="0.25"}`:        0,
		`lovage_task_queue_seconds_count{task="sleep_task"}`:                 3,
		`lovage_dead_letters_total{reason="unknown-task"}`:                   1,
		`lovage_worker_slots`:     1,
		`lovage_worker_consuming`: 1,
	} {
		s.eventually(func() bool { return s.count(w, name) == want }, "%s is %d", name, want)
	}
	waited, err := strconv.ParseFloat(s.metric(s.metrics(w), `lovage_task_queue_seconds_sum{task="sleep_task"}`), 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, waited, 0.8, "one task waited for another of a second")
	families := s.exported(w)["worker"]
	require.Equal(t, []string{"http_request", "sleep_task", "thumbnail", "unknown"}, values(families["lovage_tasks_finished_total"], "task"))
}

// docs/metrics.md has every metric, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	s, w := busyStack(t)
	exported := s.exported(w)
	documented := documentedMetrics(t)
	for program, families := range exported {
		for name, f := range families {
			if !strings.HasPrefix(name, "lovage_") {
				continue
			}
			row, found := documented[name]
			require.True(t, found, "docs/metrics.md does not have %s", name)
			require.Equal(t, strings.ToLower(f.GetType().String()), row.kind, name)
			require.ElementsMatch(t, labels(f), row.labels, name)
			require.Contains(t, row.of, program, name)
		}
	}
	for name, row := range documented {
		for _, program := range row.of {
			require.Contains(t, exported[program], name, "docs/metrics.md promises it of the %s", program)
		}
	}
}

func TestMetricsKeepTheConventions(t *testing.T) {
	t.Parallel()
	s, w := busyStack(t)
	for _, url := range []string{s.url + "/metrics", s.metrics(w)} {
		problems, err := promlint.New(bytes.NewReader(s.fetch(url, ""))).Lint()
		require.NoError(t, err)
		require.Empty(t, problems, url)
	}
}

func TestHistogramsAreNativeToThoseWhoAskForThat(t *testing.T) {
	t.Parallel()
	s, w := busyStack(t)
	of := map[string]bool{}
	for _, families := range s.exported(w) {
		for name, f := range families {
			if f.GetType() != dto.MetricType_HISTOGRAM || !strings.HasPrefix(name, "lovage_") {
				continue
			}
			for _, m := range f.GetMetric() {
				require.NotNil(t, m.GetHistogram().Schema, name)
				require.NotEmpty(t, m.GetHistogram().GetBucket(), name)
			}
			of[name] = true
		}
	}
	require.GreaterOrEqual(t, len(of), 4)
}

// busyStack is a gateway and a worker that have done a bit of everything.
func busyStack(t *testing.T) (*stack, *process) {
	t.Helper()
	s := newStack(t)
	w := s.worker("LOVAGE_METRICS_LISTEN=127.0.0.1:0")
	s.await(s.sleep(1, ""), "SUCCESS")
	return s, w
}

// exported are the metrics of both programs by their name.
func (s *stack) exported(w *process) map[string]map[string]*dto.MetricFamily {
	s.t.Helper()
	all := map[string]map[string]*dto.MetricFamily{}
	for program, url := range map[string]string{"gateway": s.url + "/metrics", "worker": s.metrics(w)} {
		all[program] = map[string]*dto.MetricFamily{}
		in := expfmt.NewDecoder(bytes.NewReader(s.fetch(url, string(expfmt.NewFormat(expfmt.TypeProtoDelim)))), expfmt.NewFormat(expfmt.TypeProtoDelim))
		for {
			f := new(dto.MetricFamily)
			err := in.Decode(f)
			if err == io.EOF { //nolint:errorlint // what io.Reader promises
				break
			}
			require.NoError(s.t, err)
			all[program][f.GetName()] = f
		}
	}
	return all
}

// metrics is where a worker shows its metrics that serves nothing else.
func (s *stack) metrics(w *process) string {
	s.t.Helper()
	return "http://" + w.await("worker listens")["address"].(string) + "/metrics"
}

func (s *stack) fetch(url, accept string) []byte {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(s.t, err)
	req.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	return text
}

// labels are the names of the labels that any of the metrics has.
func labels(f *dto.MetricFamily) []string {
	names := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names[l.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// values are those that one label has.
func values(f *dto.MetricFamily, label string) []string {
	found := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label {
				found[l.GetValue()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// documentedMetric is a row of docs/metrics.md.
type documentedMetric struct {
	kind       string
	labels, of []string
}

func documentedMetrics(t *testing.T) map[string]documentedMetric {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	rows := map[string]documentedMetric{}
	row := regexp.MustCompile("^\\| `(lovage_[a-z_]+)` \\| ([a-z]+) \\| ([a-z`, ]+) \\| ([a-z, ]+) \\| [^|]+ \\| [^|]+ \\|\n$")
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := row.FindStringSubmatch(line)
		require.NotNil(t, cells, "a row that cannot be read: %s", line)
		m := documentedMetric{kind: cells[2], of: strings.Split(cells[4], ", ")}
		if cells[3] != "none" {
			m.labels = strings.Split(strings.ReplaceAll(cells[3], "`", ""), ", ")
		}
		require.True(t, model.LegacyValidation.IsValidMetricName(cells[1]), cells[1])
		rows[cells[1]] = m
	}
	return rows
}

// count is a number that a worker shows which serves metrics and nothing else.
func (s *stack) count(w *process, name string) int {
	s.t.Helper()
	n, err := strconv.Atoi(s.metric(s.metrics(w), name))
	require.NoError(s.t, err)
	return n
}

// metric returns a value as it is shown, "" if there is none.
func (s *stack) metric(url, name string) (found string) {
	s.t.Helper()
	res, err := http.Get(url) //nolint:noctx // it is a test's own server
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	for in := bufio.NewScanner(res.Body); in.Scan(); {
		if value, ok := strings.CutPrefix(in.Text(), name+" "); ok {
			found = value
		}
	}
	return found
}

package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// keeping is a task whose lines are kept in memory.
func keeping(t *testing.T, log *zap.Logger) (*running, *taskLogs) {
	t.Helper()
	logs := newTaskLogs(nil)
	r := &running{task: &messages.Task{ID: "t1", Retries: 1}, log: log, kept: &taskLog{logs: logs, id: "t1"}}
	return r, logs
}

// lines are what waits to be written, decoded.
func lines(t *testing.T, u unwritten) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, line := range u.lines {
		require.LessOrEqual(t, len(line), lineMost)
		var v map[string]any
		require.NoError(t, json.Unmarshal(line, &v), "%s", line)
		at, err := time.Parse(time.RFC3339Nano, v["time"].(string))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, time.Minute)
		delete(v, "time")
		out = append(out, v)
	}
	return out
}

func TestLinesOfATaskAreKeptBesideTheLogOfTheWorker(t *testing.T) {
	t.Parallel()
	core, own := observer.New(zap.WarnLevel)
	r, logs := keeping(t, zap.New(core))
	log := r.logging("4bf92f3577b34da6a3ce929d0e0e4736")
	log.Debug("not kept")
	log.Info("begins", zap.Int("size", 3))
	log.With(zap.String("part", "a")).Named("x").Warn("odd", zap.Error(errors.New("why")), zap.Duration("took", time.Second))
	require.Equal(t, 1, own.Len(), "the log of the worker has its own level")
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", own.All()[0].ContextMap()["trace_id"])
	require.Same(t, log, r.logging("4bf92f3577b34da6a3ce929d0e0e4736"))

	group := logs.take()
	require.Len(t, group, 1)
	want := map[string]any{"level": "info", "message": "begins", "attempt": 2.0, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "fields": map[string]any{"size": 3.0}}
	got := lines(t, group[0])
	require.Equal(t, want, got[0])
	require.Equal(t, map[string]any{"part": "a", "error": "why", "took": 1.0}, got[1]["fields"])
	require.Empty(t, logs.take())
	logs.forget(group)
	require.Zero(t, logs.bytes)
}

func TestTheWorkersLevelCountsForTheLinesOfATask(t *testing.T) {
	t.Parallel()
	core, _ := observer.New(zap.DebugLevel)
	r, logs := keeping(t, zap.New(core))
	r.logging("").Debug("kept")
	require.Len(t, logs.take()[0].lines, 1)
	r, logs = keeping(t, zap.NewNop())
	r.logging("").Info("kept")
	require.Len(t, logs.take()[0].lines, 1)
}

func TestALineThatIsTooLongLosesItsFields(t *testing.T) {
	t.Parallel()
	r, logs := keeping(t, zap.NewNop())
	long := strings.Repeat("ü\"", 10_000)
	r.logging("").With(zap.String("with", long)).Info("short")
	r.logging("").Info("long fields", zap.String("field", long))
	r.logging("").Error(strings.Repeat("m", 10_000))
	got := lines(t, logs.take()[0])
	for i, message := range []string{"short", "long fields"} {
		require.Equal(t, message, got[i]["message"])
		require.Equal(t, true, got[i]["truncated"])
		require.NotContains(t, got[i], "fields")
	}
	require.Len(t, got[2]["message"], messageMost)
}

func TestLinesThatNobodyHasWrittenAreBounded(t *testing.T) {
	t.Parallel()
	r, logs := keeping(t, zap.NewNop())
	log := r.logging("")
	const all = 1000
	for i := range all {
		log.Info(fmt.Sprintf("%04d %s", i, strings.Repeat("x", 500)))
	}
	require.LessOrEqual(t, logs.bytes, unwrittenMost)
	for range 3 { // Redis is away
		logs.putBack(logs.take())
	}
	group := logs.take()
	got := lines(t, group[0])
	require.Equal(t, all, len(got)+group[0].lost, "what was left out is counted")
	require.True(t, strings.HasPrefix(got[len(got)-1]["message"].(string), "0999"), "the last ones are kept")
	log.Info("meanwhile")
	logs.putBack(group)
	got = lines(t, logs.take()[0])
	require.Equal(t, "meanwhile", got[len(got)-1]["message"])

	logs.bytes = unwrittenAll
	log.Info("too much of others")
	require.Equal(t, 1, r.kept.lost)
	require.Empty(t, r.kept.lines)
}

func TestAttemptsThatHaveEndedDoNotWaitForRedisForEver(t *testing.T) {
	t.Parallel()
	logs := newTaskLogs(nil)
	for i := range 3 * endedMost {
		l := &taskLog{logs: logs, id: fmt.Sprint(i)}
		l.add([]byte("{}"))
		l.end()
	}
	for range 3 * endedMost / logsTogether {
		logs.putBack(logs.take())
	}
	require.LessOrEqual(t, len(logs.dirty), endedMost+logsTogether)
	var bytes int
	for _, l := range logs.dirty {
		bytes += l.bytes
	}
	require.Equal(t, bytes, logs.bytes)
}

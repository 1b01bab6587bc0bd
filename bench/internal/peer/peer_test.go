package peer

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/bench/internal/runner"
)

// memory is a task system that keeps its tasks in memory.
type memory struct{ tasks chan runner.Input }

func (m memory) Submit(_ context.Context, in runner.Input) (string, error) {
	m.tasks <- in
	return "one", nil
}

func (m memory) Fill(ctx context.Context, n int, in runner.Input) error {
	for range n {
		if _, err := m.Submit(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

func (memory) Wait(context.Context, string) error { return nil }

func (m memory) Work(ctx context.Context, _ int, handle Handler) error {
	for {
		select {
		case <-m.tasks:
			if err := handle(ctx, "one", 1); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (m memory) Stored(context.Context) (int64, error) {
	return int64(cap(m.tasks) - len(m.tasks)), nil
}

func TestHandlerTakesTasks(t *testing.T) {
	t.Parallel()
	m := memory{make(chan runner.Input, 5)}
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/submit", `{"duration":1}`, http.StatusAccepted},
		{"/run", `{"duration":1}`, http.StatusOK},
		{"/submit", `{`, http.StatusBadRequest},
		{"/publish?messages=3&kind=payload", ``, http.StatusOK},
		{"/publish?messages=many", ``, http.StatusInternalServerError},
	} {
		w := httptest.NewRecorder()
		handler(m).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.path, strings.NewReader(c.body)))
		require.Equal(t, c.status, w.Code, c)
	}
	require.Len(t, m.tasks, 5)
}

func TestDrainEndsWithTheLastTask(t *testing.T) {
	t.Parallel()
	m := memory{make(chan runner.Input, 3)}
	require.NoError(t, m.Fill(t.Context(), 3, runner.InputOf(runner.Noop)))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	var progress runner.Progress
	drain(ctx, g, settings{Messages: 3, Slots: 1, Kind: runner.Noop}, m, &progress)
	require.Eventually(t, progress.Over, time.Minute, time.Millisecond)
	require.EqualValues(t, 3, progress.Done.Load())
	stop()
	require.NoError(t, g.Wait())
}

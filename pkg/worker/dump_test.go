package worker

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestADumpHasTheGoroutinesOfOneTaskAndNoOthers(t *testing.T) {
	t.Parallel()
	w := New(Options{})
	release, helpers := make(chan struct{}), sync.WaitGroup{}
	begun := make(chan struct{}, 10)
	Handle(w, "wait", func(context.Context, struct{}) (int, error) {
		for range 3 {
			helpers.Go(func() { waitForRelease(begun, release) })
		}
		waitForRelease(begun, release)
		return 0, nil
	})
	ids := []string{`a "quoted", id`, "b"}
	var running sync.WaitGroup
	for _, id := range ids {
		running.Go(func() {
			w.RunAttempt(t.Context(), &messages.Task{ID: id, Name: "wait", Kwargs: json.RawMessage(`{}`)}, nil)
		})
	}
	defer running.Wait()
	defer helpers.Wait()
	defer close(release)
	for range 4 * len(ids) {
		<-begun
	}
	for _, id := range ids {
		a := dump(id)
		require.Empty(t, a.Refused, id)
		require.Equal(t, 4, a.Goroutines, a.Dump)
		require.False(t, a.Truncated)
		require.Contains(t, a.Dump, "waitForRelease")
		require.Contains(t, a.Dump, "worker.(*attempt).run", "how it came there")
	}
	for _, id := range []string{"", "a", `b", "x":"y`} {
		require.NotEmpty(t, dump(id).Refused, id)
	}
}

func waitForRelease(begun chan<- struct{}, release <-chan struct{}) {
	begun <- struct{}{}
	<-release
}

func TestADumpIsBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var deep sync.WaitGroup
	defer deep.Wait()
	defer close(release)
	begun := make(chan struct{}, 100)
	labelled(t.Context(), &messages.Task{ID: "deep"})
	for depth := range 100 { // stacks that differ are not told as one
		deep.Go(func() { descend(depth, begun, release) })
	}
	labelled(context.WithoutCancel(t.Context()), &messages.Task{ID: "other"})
	for range 100 {
		<-begun
	}
	a := dump("deep")
	require.GreaterOrEqual(t, a.Goroutines, 100)
	require.True(t, a.Truncated)
	require.LessOrEqual(t, len(a.Dump), maxDump)
	require.NotEmpty(t, a.Dump)
}

//go:noinline
func descend(depth int, begun chan<- struct{}, release <-chan struct{}) {
	if depth > 0 {
		descend(depth-1, begun, release)
		return
	}
	waitForRelease(begun, release)
}

func TestRunsAreListedFromTheLongestOn(t *testing.T) {
	t.Parallel()
	r := newRuns()
	first := r.enter(&messages.Task{ID: "a", Name: "t", Queue: "q", Retries: 2})
	second := r.enter(&messages.Task{ID: "b"})
	list := r.longest(10)
	require.Len(t, list, 2)
	require.Equal(t, "a", list[0].TaskID)
	require.Equal(t, 3, list[0].Attempt)
	require.Len(t, r.longest(1), 1)
	r.leave(first)
	require.Equal(t, "b", r.longest(10)[0].TaskID)
	r.leave(second)
	require.NotNil(t, r.longest(10))
	require.Positive(t, memory().Heap)
}

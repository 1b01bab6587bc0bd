package results_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// BenchmarkSearch is the first page of lists while Redis holds so many tasks, and
// what one of them takes of its memory beside its input and its result. Of a
// thousand tasks 997 have succeeded, and one each has failed, waits and runs.
func BenchmarkSearch(b *testing.B) {
	for _, tasks := range []int{10_000, 1_000_000} {
		b.Run(strconv.Itoa(tasks), func(b *testing.B) { benchmarkSearch(b, tasks) })
	}
}

func benchmarkSearch(b *testing.B, tasks int) {
	b.Helper()
	client, err := results.Open(devstack.Redis(b) + patient)
	require.NoError(b, err)
	defer func() { _ = client.Close() }()
	require.NoError(b, client.ConfigSet(b.Context(), "appendonly", "no").Err())
	s := results.New(results.Options{Client: client})
	before := usedMemory(b, client)
	payload := fill(b, s, tasks)
	bytes := usedMemory(b, client) - before

	for name, f := range map[string]results.Filter{
		"all":            {},
		"failed":         {States: []messages.State{messages.Failure}},
		"running":        {States: []messages.State{messages.Started}},
		"succeeded":      {States: []messages.State{messages.Success}},
		"name":           {Name: "bench.add"},
		"name=seldom":    {Name: "bench.seldom"},
		"worker=nobody":  {Worker: "nobody"},
		"error":          {Error: "number 17"},
		"failed+name":    {Name: "bench.add", States: []messages.State{messages.Failure}},
		"id":             {ID: messages.NewID()[:9]},
		"input":          {Input: map[string]string{"user_id": "1005000"}},
		"yesterday":      {Until: time.Now().Add(-24 * time.Hour)},
		"queue+failed":   {Queue: "default", States: []messages.State{messages.Failure, messages.Revoked}},
		"error=nothing":  {Error: "no such thing"},
		"id=of no shape": {ID: "zzz"},
	} {
		b.Run(name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				page, err := s.List(b.Context(), f, "", 50)
				require.NoError(b, err)
				found = len(page.Results)
			}
			b.ReportMetric(float64(found), "found")
			b.ReportMetric(float64(bytes-payload)/float64(tasks), "B/task")
		})
	}
}

// fill runs tasks as gateways and workers do, and returns how many bytes of input
// and result there are.
func fill(b *testing.B, s *results.Store, tasks int) (payload int64) {
	b.Helper()
	var g errgroup.Group
	const callers = 256
	recorder := results.NewRecorder(s, 10_000)
	ctx, cancel := context.WithCancel(b.Context())
	recording := make(chan error, 1)
	go func() { recording <- recorder.Run(ctx) }()
	for c := range callers {
		g.Go(func() error {
			for i := c; i < tasks; i += callers {
				if err := run(b.Context(), s, recorder, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, g.Wait())
	cancel()
	require.NoError(b, <-recording)
	require.Zero(b, recorder.Dropped())
	return int64(tasks) * int64(len(benchInput(0))+len(benchResult))
}

const benchResult = `{"sum":10000,"ok":true}`

func benchInput(i int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"user_id":%d,"text":"twenty-five bytes of text"}`, 1_000_000+i))
}

func run(ctx context.Context, s *results.Store, recorder *results.Recorder, i int) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	r := messages.Result{
		TaskID: messages.NewID(), State: messages.Pending, Name: "bench.add", Queue: "default", Kwargs: benchInput(i), DateCreated: now,
	}
	if i%5000 == 0 {
		r.Name, r.Terms = "bench.seldom", []string{"user_id=" + strconv.Itoa(1_000_000+i)}
	}
	submitted := r
	recorder.Await(ctx, &submitted)
	if i%1000 == 0 {
		return nil
	}
	r.Worker, r.DateStarted = "host-12345-0a1b2c3d", now
	a := messages.Attempt{ID: r.TaskID}
	if _, err := s.Claim(ctx, a, "token-of-the-length-of-a-uuid-0123456", &r); err != nil {
		return err
	}
	if i%1000 == 1 {
		r.State = messages.Started
		return s.Progress(ctx, a, "token-of-the-length-of-a-uuid-0123456", &r)
	}
	r.State, r.Value, r.DateDone = messages.Success, json.RawMessage(benchResult), now
	if i%1000 == 2 {
		r.State, r.Error = messages.Failure, &messages.TaskError{Type: "ValueError", Message: fmt.Sprintf("number %d is bad", i/1000)}
	}
	return s.Settle(ctx, results.Settlement{Attempt: a, Token: "token-of-the-length-of-a-uuid-0123456", Result: &r})
}

func usedMemory(b *testing.B, client redis.UniversalClient) int64 {
	b.Helper()
	info, err := client.Info(b.Context(), "memory").Result()
	require.NoError(b, err)
	_, rest, _ := strings.Cut(info, "used_memory:")
	n, err := strconv.ParseInt(strings.TrimSpace(rest[:strings.IndexByte(rest, '\r')]), 10, 64)
	require.NoError(b, err)
	return n
}

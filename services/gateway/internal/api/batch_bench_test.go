package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// BenchmarkBatchItem is what an item of a batch costs beside the broker and
// Redis: what is behind the API does nothing.
func BenchmarkBatchItem(b *testing.B) {
	store := &fakeStore{entries: []messages.CatalogEntry{sleepEntry()}}
	a, err := New(Options{Publisher: sink{}, Results: store, Recorder: sink{}, Watcher: store, Catalog: store, Keys: &fakeKeys{}})
	require.NoError(b, err)
	a.catalog.refresh(b.Context(), 0)
	line := []byte(`{"task":"sleep_task","kwargs":{"duration":1},"options":{"queue":"default"}}` + "\n")
	r := httptest.NewRequestWithContext(b.Context(), post, routeBatch, &repeated{of: bytes.Repeat(line, 100), left: b.N * len(line)})
	r.Host = "localhost"
	r.Header.Set("Content-Type", ndjsonType)
	w := &tally{discard: discard{http.Header{}}}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	a.ServeHTTP(w, r)
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	require.Equal(b, b.N, w.accepted)
}

// cpuTime is the processor time of this process: of all figures it is the one
// that other processes disturb least.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// repeated reads the same bytes again and again, up to a number of them.
type repeated struct {
	of       []byte
	at, left int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := min(copy(p, r.of[r.at:]), r.left)
	r.at, r.left = (r.at+n)%len(r.of), r.left-n
	return n, nil
}

// tally counts the items that were accepted.
type tally struct {
	discard
	accepted int
}

func (t *tally) Write(p []byte) (int, error) {
	t.accepted += bytes.Count(p, []byte(`"status":202`))
	return len(p), nil
}

func (t *tally) Flush() {}

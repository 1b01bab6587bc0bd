package load

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answers collects them.
type answers struct {
	mu   sync.Mutex
	list []Answer
}

func (a *answers) add(one Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, one)
}

func open(t *testing.T, handle http.HandlerFunc) Open {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	address := s.Listener.Addr().String()
	return Open{Address: address, Request: Request(address, "/", "{}"), Patience: time.Minute}
}

func TestOpenLoopSendsWhatIsDue(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{false, true} {
		var got answers
		o := open(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
		o.Rate, o.Length, o.Clients, o.Fresh, o.Answered = 200, 200*time.Millisecond, 4, fresh, got.add
		begun := time.Now()
		require.NoError(t, o.Run(t.Context()))
		require.GreaterOrEqual(t, time.Since(begun), 195*time.Millisecond)
		require.Len(t, got.list, 40)
		slices.SortFunc(got.list, func(x, y Answer) int { return int(x.Number - y.Number) })
		for i, a := range got.list {
			require.EqualValues(t, i, a.Number)
			require.Equal(t, http.StatusAccepted, a.Status)
			require.Equal(t, 5*time.Millisecond*time.Duration(i), a.Due.Sub(got.list[0].Due).Round(time.Microsecond))
		}
	}
}

// One client for requests that each take longer than the time between two.
func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	t.Parallel()
	const each = 20 * time.Millisecond
	var got answers
	o := open(t, func(http.ResponseWriter, *http.Request) { <-time.After(each) })
	o.Rate, o.Length, o.Clients, o.Answered = 1000, 10*time.Millisecond, 1, got.add
	require.NoError(t, o.Run(t.Context()))
	require.Len(t, got.list, 10)
	last := got.list[9]
	require.EqualValues(t, 9, last.Number)
	require.GreaterOrEqual(t, last.Took, 10*each-9*time.Millisecond)
}

func TestOpenLoopGoesWithoutAnAnswerAtLast(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	var got answers
	release := make(chan struct{})
	o := open(t, func(http.ResponseWriter, *http.Request) {
		if requests.Add(1) == 1 {
			<-release
		}
	})
	o.Rate, o.Length, o.Clients, o.Answered, o.Patience = 100, 20*time.Millisecond, 1, got.add, 50*time.Millisecond
	require.NoError(t, o.Run(t.Context()))
	close(release)
	require.Len(t, got.list, 2)
	require.Zero(t, got.list[0].Status)
	require.GreaterOrEqual(t, got.list[0].Took, o.Patience)
	require.Equal(t, http.StatusOK, got.list[1].Status)
}

func TestOpenLoopEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	var once sync.Once
	o := open(t, func(http.ResponseWriter, *http.Request) {
		once.Do(cancel)
		<-release
	})
	defer close(release)
	o.Rate, o.Length, o.Clients, o.Fresh, o.Answered = 10, time.Hour, 2, true, func(Answer) {}
	require.ErrorIs(t, o.Run(ctx), context.Canceled)
}

package worker

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoffDefaults(t *testing.T) {
	t.Parallel()
	almostOne := func() float64 { return math.Nextafter(1, 0) }
	want := []time.Duration{
		time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, 64 * time.Second,
		128 * time.Second, 256 * time.Second, 512 * time.Second, 10 * time.Minute, 10 * time.Minute,
	}
	for retry, bound := range want {
		require.InDelta(t, bound, Backoff{}.Delay(retry, almostOne), 2, "retry %d", retry)
	}
	require.Zero(t, Backoff{}.Delay(5, func() float64 { return 0 }), "full jitter")
	require.Equal(t, 2*time.Second, Backoff{}.Delay(2, func() float64 { return 0.5 }))
}

// Whatever the numbers, a wait is never negative, never above Max, and its
// bound never shrinks with the retries.
func TestBackoffStaysInItsBounds(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // reproducible on purpose
	for range 10_000 {
		base := time.Duration(random.Int64N(int64(time.Hour))) + 1
		b := Backoff{
			Base:   base,
			Max:    base + time.Duration(random.Int64N(int64(1000*time.Hour))),
			Factor: 1 + random.ExpFloat64()*10,
		}
		require.NoError(t, b.Validate())
		retry := random.IntN(1_000_000)
		if random.IntN(2) == 0 {
			retry = random.IntN(20)
		}
		delay := b.Delay(retry, nil)
		require.GreaterOrEqual(t, delay, time.Duration(0))
		require.LessOrEqual(t, delay, b.Max)
		top := func() float64 { return math.Nextafter(1, 0) }
		require.LessOrEqual(t, b.Delay(retry, top), b.Delay(retry+1, top))
		require.LessOrEqual(t, b.Delay(0, top), b.Base)
	}
}

func TestBackoffOfANegativeRetryIsTheFirst(t *testing.T) {
	t.Parallel()
	half := func() float64 { return 0.5 }
	require.Equal(t, Backoff{}.Delay(0, half), Backoff{}.Delay(-3, half))
}

func TestBackoffValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, Backoff{}.Validate())
	require.NoError(t, Backoff{Base: time.Hour}.Validate(), "Max follows Base where only that is given")
	require.NoError(t, Backoff{Factor: 1}.Validate())
	err := Backoff{Base: -1, Max: -2, Factor: math.NaN()}.Validate()
	for _, text := range []string{"Base must be positive", "Max must not be below Base", "Factor must be a number of at least 1"} {
		require.ErrorContains(t, err, text)
	}
	require.Error(t, Backoff{Factor: math.Inf(1)}.Validate())
}

func TestWaitsAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	b := Backoff{Waits: []time.Duration{time.Second, 0, time.Hour}}
	require.NoError(t, b.Validate())
	for retry, want := range map[int]time.Duration{-1: time.Second, 0: time.Second, 1: 0, 2: time.Hour, 3: time.Hour, 100: time.Hour} {
		require.Equal(t, want, b.Delay(retry, nil), "retry %d", retry)
	}
	require.ErrorContains(t, Backoff{Waits: []time.Duration{1, -1}}.Validate(), "must not be negative")
	require.ErrorContains(t, Backoff{Waits: []time.Duration{1}, Max: time.Hour}.Validate(), "take the place")
}

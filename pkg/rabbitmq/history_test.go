package rabbitmq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRatesAndAgesFollowFromTheLengthOfAQueue(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var h history
	in, out := h.rates()
	require.Nil(t, in)
	require.Nil(t, out)
	ready := 0
	step := func(second int, came, left float64) {
		h.add(sample{at: begin.Add(time.Duration(second) * time.Second), in: came, out: left})
		ready = int(came - left)
	}
	step(0, 100, 100)
	require.Zero(t, *h.oldest(ready))
	step(5, 150, 100)  // 50 wait
	step(10, 150, 120) // 20 of them have left
	require.Equal(t, 5*time.Second, *h.oldest(ready), "the others are there since the second sample")
	in, out = h.rates()
	require.InDelta(t, 5, *in, 0.01)
	require.InDelta(t, 2, *out, 0.01)
	step(15, 190, 151) // all of the first have, 39 of the next wait
	require.Equal(t, time.Duration(0), *h.oldest(ready))
	step(20, 190, 151)
	require.Equal(t, 5*time.Second, *h.oldest(ready))
	step(25, 140, 151) // somebody has thrown the rest away
	in, _ = h.rates()
	require.GreaterOrEqual(t, *in, 0.0)
	step(30, 7, 0) // the broker was restarted
	in, _ = h.rates()
	require.Nil(t, in)
	require.Zero(t, *h.oldest(7))
	step(35, 7, 0)
	require.Equal(t, 5*time.Second, *h.oldest(7), "as long as it was seen")
}

func TestAHistoryIsBoundedAndReachesFarBack(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var h history
	const samples = 100_000 // of 5 s: almost six days
	for i := range samples {
		h.add(sample{at: begin.Add(time.Duration(i) * 5 * time.Second), in: 10 + float64(i)/1000, out: 0})
		require.LessOrEqual(t, len(h.samples), historyMost)
	}
	require.Equal(t, (samples-1)*5*time.Second, *h.oldest(1000), "one waits since the beginning")
	in, _ := h.rates()
	require.InDelta(t, 0.0002, *in, 0.0001)
}

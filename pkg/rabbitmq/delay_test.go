package rabbitmq

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDelayedEntersAtTheHighestBitAndRoundsUp(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("0.", delayBits)
	for _, tc := range []struct {
		delay    time.Duration
		exchange string
		key      string
	}{
		{0, "", "q"},
		{-time.Second, "", "q"},
		{time.Nanosecond, "lovage_delayed_100ms", zeros + "q"},
		{100 * time.Millisecond, "lovage_delayed_100ms", zeros + "q"},
		{101 * time.Millisecond, "lovage_delayed_200ms", zeros + "q"},
		{901 * time.Millisecond, "lovage_delayed_0", strings.Repeat("0.", 27) + "1.q"},
		{time.Second, "lovage_delayed_0", strings.Repeat("0.", 27) + "1.q"},
		{5 * time.Second, "lovage_delayed_2", strings.Repeat("0.", 25) + "1.0.1.q"},
		{5*time.Second + 1, "lovage_delayed_100ms", strings.Repeat("0.", 25) + "1.0.1.q"},
		{MaxDelay, "lovage_delayed_27", strings.Repeat("1.", 28) + "q"},
		{MaxDelay + time.Hour, "lovage_delayed_27", strings.Repeat("1.", 28) + "q"},
	} {
		a := Delayed("q", tc.delay)
		require.Equal(t, Address{Exchange: tc.exchange, Key: tc.key}, a, "delay %v", tc.delay)
		require.LessOrEqual(t, len(Delayed(strings.Repeat("q", 100), tc.delay).Key), maxShortString)
	}
}

package rabbitmq

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestRetryAfterFollowsTheDrainOfTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := NewDepth(DepthOptions{Options: Options{Log: zap.NewNop()}, Limit: 1000})
		after := func(ready int) time.Duration {
			t.Helper()
			<-time.After(time.Second)
			d.answer("q", ready, d.ask("q"))
			var full *messages.QueueFullError
			require.ErrorAs(t, d.Check("q"), &full)
			return full.RetryAfter
		}
		d.Sent("q")
		require.Equal(t, time.Minute, after(1100), "nothing is known of its drain")
		require.Equal(t, time.Minute, after(1100), "nothing leaves it")
		require.Equal(t, 10*time.Second, after(1080), "10 a second on average, and 81 + 10 have to leave")
		require.Equal(t, time.Second, after(1000), "45 a second on average, and 1 + 10 have to leave")
	})
}

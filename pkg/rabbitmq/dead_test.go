package rabbitmq_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// graves returns the dead letters of a broker with some in queue "q".
func graves(t *testing.T, n int) *rabbitmq.DeadLetters {
	t.Helper()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("q")
	for i := range n {
		require.NoError(t, p.DeadLetter(t.Context(), "q", message(fmt.Sprintf("t%d", i))))
	}
	return rabbitmq.NewDeadLetters(options(t, url))
}

// seen passes over the letters and returns the ids in their order.
func seen(t *testing.T, d *rabbitmq.DeadLetters, verdict func(i int, id string) rabbitmq.Verdict) (ids []string) {
	t.Helper()
	require.NoError(t, d.Pass(t.Context(), "q", func(_ context.Context, m *messages.Message) (rabbitmq.Verdict, error) {
		ids = append(ids, m.MessageID)
		return verdict(len(ids)-1, m.MessageID), nil
	}))
	return ids
}

func keepAll(int, string) rabbitmq.Verdict { return rabbitmq.Keep }

func TestAPassLeavesWhatItKeepsInItsPlace(t *testing.T) {
	t.Parallel()
	d := graves(t, 6)
	all := []string{"t0", "t1", "t2", "t3", "t4", "t5"}
	require.Equal(t, all, seen(t, d, keepAll))
	require.Equal(t, all, seen(t, d, keepAll))
	require.Equal(t, all, seen(t, d, func(i int, _ string) rabbitmq.Verdict {
		return rabbitmq.Verdict(i % 2) // every other one goes
	}))
	require.Equal(t, []string{"t0", "t2", "t4"}, seen(t, d, keepAll))
	require.Equal(t, []string{"t0", "t2"}, seen(t, d, func(i int, _ string) rabbitmq.Verdict {
		if i == 1 {
			return rabbitmq.Stop
		}
		return rabbitmq.Keep
	}))
	require.Equal(t, []string{"t0", "t2", "t4"}, seen(t, d, keepAll))
}

// The broker forgets acks that it holds back when their channel closes.
func TestWhatAPassHasRemovedDoesNotComeBack(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]int{"all": 1, "every other one": 2, "one of three": 3, "one": 1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const many = 700 // more than one stage keeps
			d := graves(t, many)
			seen(t, d, func(i int, _ string) rabbitmq.Verdict {
				if i%step == 0 {
					return rabbitmq.Remove
				}
				return rabbitmq.Keep
			})
			left := seen(t, d, keepAll)
			require.Len(t, left, many-(many+step-1)/step)
			require.True(t, slices.IsSortedFunc(left, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }), "in their order: %v", left)
		})
	}
}

func TestAPassEndsWithTheErrorOfItsLook(t *testing.T) {
	t.Parallel()
	d := graves(t, 2)
	no := errors.New("no")
	looked := 0
	require.ErrorIs(t, d.Pass(t.Context(), "q", func(context.Context, *messages.Message) (rabbitmq.Verdict, error) {
		looked++
		return rabbitmq.Remove, no
	}), no)
	require.Equal(t, 1, looked)
	require.Equal(t, []string{"t0", "t1"}, seen(t, d, keepAll))
}

func TestPassesDoNotGetInEachOthersWay(t *testing.T) {
	t.Parallel()
	d := graves(t, 2)
	require.NoError(t, d.Pass(t.Context(), "q", func(ctx context.Context, _ *messages.Message) (rabbitmq.Verdict, error) {
		require.ErrorIs(t, d.Pass(ctx, "q", nil), rabbitmq.ErrPassing)
		return rabbitmq.Keep, nil
	}))
	require.Len(t, seen(t, d, keepAll), 2)
}

func TestAPassThatIsCancelledRemovesNothingMore(t *testing.T) {
	t.Parallel()
	d := graves(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, d.Pass(ctx, "q", func(context.Context, *messages.Message) (rabbitmq.Verdict, error) {
		cancel()
		return rabbitmq.Keep, nil
	}), context.Canceled)
	require.Eventually(t, func() bool {
		n := 0
		err := d.Pass(t.Context(), "q", func(context.Context, *messages.Message) (rabbitmq.Verdict, error) {
			n++
			return rabbitmq.Keep, nil
		})
		return err == nil && n == 3
	}, patience, 5*time.Millisecond)
}

func TestAQueueThatNobodyHasDeclaredHasNoDeadLetters(t *testing.T) {
	t.Parallel()
	d := rabbitmq.NewDeadLetters(options(t, devstack.VHost(t)))
	require.NoError(t, d.Pass(t.Context(), "nobody's", nil))
	away := rabbitmq.NewDeadLetters(options(t, "amqp://guest:guest@127.0.0.1:1/"))
	require.ErrorIs(t, away.Pass(t.Context(), "q", nil), messages.ErrBrokerUnavailable)
}

package rabbitmq

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Confirms may come in any order, one by one or many at a time. Whatever the
// order, each settles exactly the messages that the broker means (RabbitMQ's
// page on publisher confirms), and no message is settled twice.
func TestConfirmsSettleWhatTheyMean(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := newConfirmChannel(1)
	jobs := map[uint64]*job{} // by tag, while unsettled
	var next uint64
	for range 20_000 {
		if len(jobs) == 0 || r.IntN(2) == 0 {
			j := newJob(Address{}, &messages.Message{}, func() {}, nil)
			c.add(j)
			next++
			jobs[next] = j
			continue
		}
		tag, multiple := 1+r.Uint64N(next+2), r.IntN(10) == 0 // sometimes one that was settled or never sent
		var want []*job
		for each, j := range jobs {
			if each == tag || multiple && each < tag {
				want = append(want, j)
				delete(jobs, each)
			}
		}
		require.ElementsMatch(t, want, c.take(nil, tag, multiple))
		require.EqualValues(t, len(jobs), c.outstanding.Load())
	}
	require.Len(t, c.takeAll(nil), len(jobs))
	require.Zero(t, c.outstanding.Load())
	require.Empty(t, c.jobs)
}

func TestConfirmsOfManyKeepTheirOrder(t *testing.T) {
	t.Parallel()
	c := newConfirmChannel(1)
	var want []*job
	for range 5 {
		j := newJob(Address{}, &messages.Message{}, func() {}, nil)
		c.add(j)
		want = append(want, j)
	}
	require.Equal(t, want[:3], c.take(nil, 3, true))
	require.Equal(t, want[3:], c.take(nil, 0, true), "tag 0 means all")
}

// A job ends once, whoever comes first: the broker, the end of the connection,
// or its caller's context.
func TestAJobGivesItsTokenBackOnce(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(j *job){
		"queued, handed back":          func(j *job) { j.handBack(); j.finish(noWord, time.Now()) },
		"queued, left, then met":       func(j *job) { j.state.Store(jobLeft); j.finish(noWord, time.Now()) },
		"written, confirmed":           func(j *job) { j.state.Store(jobWritten); j.settle(true, false, time.Now()) },
		"written, left, confirmed":     func(j *job) { j.state.Store(jobLeft); j.settle(true, false, time.Now()) },
		"written, left, never sent":    func(j *job) { j.state.Store(jobLeft); j.handBack() },
		"released early, then settled": func(j *job) { j.release(); j.state.Store(jobWritten); j.settle(false, false, time.Now()) },
	} {
		freed := 0
		end(newJob(Address{}, &messages.Message{}, func() { freed++ }, nil))
		require.Equal(t, 1, freed, name)
	}
}

func TestReturnsAreCountedByIDAndAddress(t *testing.T) {
	t.Parallel()
	c := newConfirmChannel(1)
	here := newJob(Immediate("here"), &messages.Message{MessageID: "a"}, func() {}, nil)
	there := newJob(Immediate("there"), &messages.Message{MessageID: "a"}, func() {}, nil)
	key := returnKey{there.address, "a"}
	c.returned[key] = 2
	require.False(t, c.takeReturn(here))
	require.Equal(t, []bool{true, true, false}, slices.Collect(func(yield func(bool) bool) {
		for range 3 {
			yield(c.takeReturn(there))
		}
	}))
	require.Empty(t, c.returned)
}

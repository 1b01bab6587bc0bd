package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/bench/internal/load"
)

// answered are submissions that were due every 20 ms and took 5 ms.
func answered(begin time.Time, statuses ...int) *timeline {
	t := &timeline{}
	for i, status := range statuses {
		due := begin.Add(time.Duration(i) * time.Second / outageRate)
		t.add(load.Answer{Number: int64(i), Due: due, Took: 5 * time.Millisecond, Status: status})
	}
	return t
}

func repeat(status, times int) (list []int) {
	for range times {
		list = append(list, status)
	}
	return list
}

func TestServiceServesAgainWithTheFirstOfManyInARow(t *testing.T) {
	t.Parallel()
	begin := time.Now().Add(-time.Minute)
	statuses := append(repeat(http.StatusServiceUnavailable, 3), repeat(http.StatusAccepted, inARow-1)...)
	_, good := answered(begin, statuses...).good(begin)
	require.False(t, good)
	got := answered(begin, append(statuses, http.StatusAccepted)...)
	at, good := got.good(begin)
	require.True(t, good)
	require.Equal(t, begin.Add(3*time.Second/outageRate+5*time.Millisecond), at)
	_, good = got.good(begin.Add(time.Second)) // too few are left
	require.False(t, good)

	got.answers = append(got.answers[:10], got.answers[11:]...) // one has no answer yet
	_, good = got.good(begin)
	require.False(t, good)
}

func TestAbsenceIsCompleteWhenAllHaveTheirAnswers(t *testing.T) {
	t.Parallel()
	begin := time.Now().Add(-time.Minute)
	got := answered(begin, repeat(http.StatusAccepted, 2*outageRate)...)
	require.Len(t, got.between(begin, begin.Add(time.Second)), outageRate)
	require.True(t, got.complete(begin, begin.Add(2*time.Second)))
	require.False(t, got.complete(begin, begin.Add(3*time.Second)))
}

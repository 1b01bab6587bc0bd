package results_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/results"
)

func TestTheLastLinesOfATaskAreKept(t *testing.T) {
	t.Parallel()
	s, client := newStore(t)
	none, err := s.Log(t.Context(), "t1")
	require.NoError(t, err)
	require.NotNil(t, none)
	require.Empty(t, none)
	for i := range 3 {
		lines := results.LogLines{TaskID: "t1", TTL: time.Hour}
		for j := range 50 {
			lines.Lines = append(lines.Lines, fmt.Appendf(nil, `{"n":%d}`, 50*i+j))
		}
		other := results.LogLines{TaskID: "t2", Lines: [][]byte{[]byte("no json"), []byte(`{}`)}}
		require.NoError(t, s.AppendLogs(t.Context(), []results.LogLines{lines, other}))
	}
	got, err := s.Log(t.Context(), "t1")
	require.NoError(t, err)
	require.Len(t, got, 100)
	require.JSONEq(t, `{"n":50}`, string(got[0]))
	require.JSONEq(t, `{"n":149}`, string(got[99]))
	got, err = s.Log(t.Context(), "t2")
	require.NoError(t, err)
	require.Len(t, got, 3, "what is no JSON is passed over")
	require.InDelta(t, time.Hour, client.PTTL(t.Context(), "lovage:log:t1").Val(), float64(time.Minute))
	require.Positive(t, client.PTTL(t.Context(), "lovage:log:t2").Val())
}

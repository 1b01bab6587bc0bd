package results

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestPacksHoldWhatWasPacked(t *testing.T) {
	t.Parallel()
	for range 200 {
		var want []place
		for range rand.N(40) {
			id := uuid.NewString()
			switch rand.N(10) {
			case 0:
				id = "order-" + id
			case 1:
				id = "A" + id[1:] // would be written in another way
			}
			want = append(want, place{score: 1_790_000_000_000<<markBits + rand.N[int64](4*packSpan), id: id})
		}
		var got []place
		for _, member := range pack(slices.Clone(want)) {
			places := unpack(member)
			require.Equal(t, member.score, places[0].score, "it has the score of the newest")
			require.True(t, slices.IsSortedFunc(places, newestFirst))
			require.LessOrEqual(t, member.score-places[len(places)-1].score, int64(packSpan))
			require.Equal(t, len(places) > 1, packed(member.id))
			require.Equal(t, member, placeFrom(member.z()), "Redis keeps the score")
			got = append(got, places...)
		}
		require.ElementsMatch(t, want, got)
	}
}

func FuzzPack(f *testing.F) {
	f.Add(packMark + "0123456789abcdef\x00\x00\x00\x01")
	f.Add(packMark)
	f.Fuzz(func(t *testing.T, member string) {
		for _, p := range unpack(place{score: 1 << 50, id: member}) {
			require.LessOrEqual(t, p.score, int64(1)<<50)
		}
	})
}

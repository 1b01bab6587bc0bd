package results

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// A pack is a member of a sorted set that stands for several tasks. Most tasks
// succeed, and when there is much to do many of them do so at the same time: a
// member for each would be the largest part of what the index costs.
//
// It has the score of the newest of its tasks, and consists of a zero byte and,
// newest first, the UUID of each and by how much its score is less.
const (
	packMark   = "\x00"
	packedSize = 16 + 4
	// packSpan is how much the scores of a pack may differ, a second: from so much
	// further ahead one has to read.
	packSpan = 1000 << markBits
)

// pack turns places into the members of a sorted set. It orders the places.
func pack(places []place) []place {
	if len(places) < 2 {
		return places
	}
	slices.SortFunc(places, newestFirst)
	var members []place
	for len(places) > 0 {
		first := places[0]
		ids, n := make([]byte, 0, len(places)*packedSize), 0
		for n < len(places) && first.score-places[n].score <= packSpan {
			id, ok := canonical(places[n].id)
			if !ok {
				break
			}
			ids = append(ids, id[:]...)
			ids = binary.BigEndian.AppendUint32(ids, uint32(first.score-places[n].score))
			n++
		}
		if n > 1 {
			first.id = packMark + string(ids)
		}
		members = append(members, first)
		places = places[max(n, 1):]
	}
	return members
}

// canonical reads a UUID that is written in the way it would be written again.
func canonical(id string) (uuid.UUID, bool) {
	if len(id) != 36 || strings.ToLower(id) != id {
		return uuid.UUID{}, false
	}
	u, err := uuid.Parse(id)
	return u, err == nil
}

// packed reports whether a member is a pack.
func packed(member string) bool {
	return strings.HasPrefix(member, packMark) && (len(member)-len(packMark))%packedSize == 0
}

// unpack returns the places of a member.
func unpack(member place) []place {
	if !packed(member.id) {
		return []place{member}
	}
	rest := []byte(member.id[len(packMark):])
	places := make([]place, 0, len(rest)/packedSize)
	for one := range slices.Chunk(rest, packedSize) {
		less := int64(binary.BigEndian.Uint32(one[16:]))
		places = append(places, place{score: member.score - less, id: uuid.UUID(one[:16]).String()})
	}
	return places
}

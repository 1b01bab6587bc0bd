package results

import (
	"strconv"
	"strings"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const taskPrefix = "lovage:t:"

// taskKey is the key of the task record: "lovage:t:{celery-task-meta-<id>}". Its
// hash tag is the whole name of the result record, so that both are in one
// slot of a cluster and a script may touch them together.
//
// An id may contain braces. Where they make the result record's name carry a
// tag of its own, the same name without further braces has that tag first.
// Where a closing brace forbids to quote the name, a number with the same slot
// stands in for it.
func taskKey(id string) string {
	name := messages.ResultKey(id)
	switch {
	case !strings.Contains(name, "}"):
		return taskPrefix + "{" + name + "}"
	case hasTag(name):
		return taskPrefix + name
	default:
		return taskPrefix + "{" + numberInSlot(slot(name)) + "}" + name
	}
}

// hasTag reports whether Redis Cluster hashes a part of the name only: what is
// between the first opening brace and the first closing one after it, unless
// that is empty.
func hasTag(name string) bool {
	_, rest, found := strings.Cut(name, "{")
	return found && strings.Index(rest, "}") > 0
}

// numberInSlot finds a number whose slot is the given one: about 16,000 tries.
func numberInSlot(want uint16) string {
	for n := 0; ; n++ {
		if text := strconv.Itoa(n); slot(text) == want {
			return text
		}
	}
}

// slot is Redis Cluster's hash slot of a name without a tag: CRC-16/XMODEM
// modulo 16,384.
func slot(name string) uint16 {
	var crc uint16
	for i := range len(name) {
		crc ^= uint16(name[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}

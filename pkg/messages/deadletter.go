package messages

import (
	"math"
	"strings"
	"time"
)

const (
	deadPrefix = "lovage_dead_"
	// The bounds of the texts in a dead letter's headers, in bytes.
	maxDeadError = 4 << 10
	maxDeadStack = 16 << 10
	maxDeadName  = 255
	// maxDeadHeaders bounds all headers of a dead letter: less than the frame
	// size of 128 KiB, over which the connection would be closed.
	maxDeadHeaders = 112 << 10
)

// EncodeDeadLetter adds d to the headers of m as flat "lovage_dead_*" headers
// of string and int32; those of an earlier death are replaced. Error is cut to
// 4 KiB and Stack to 16 KiB.
//
// It works on a message from [Encode] as well as on one that was received and
// could not be decoded: the headers are copied, what the broker added is left
// out, and values of types that cannot travel are dropped. Where the headers
// would outgrow a frame, the largest of them go.
func EncodeDeadLetter(m *Message, d DeadLetter) {
	h := make(map[string]any, len(m.Headers)+9)
	for name, v := range m.Headers {
		if brokerHeader(name) || strings.HasPrefix(name, deadPrefix) || len(name) > 255 {
			continue
		}
		if safe, err := wireValue(v, 1); err == nil {
			h[name] = safe
		}
	}
	h[deadPrefix+"reason"] = string(d.Reason)
	h[deadPrefix+"run"] = int32(clamp(d.Run))
	h[deadPrefix+"attempts"] = int32(clamp(d.Attempts))
	for name, value := range map[string]string{
		"error": clip(d.Error, maxDeadError), "stack": clip(d.Stack, maxDeadStack),
		"queue": clip(d.Queue, maxDeadName), "worker": clip(d.Worker, maxDeadName),
		"first": formatTime(d.FirstTime), "last": formatTime(d.LastTime),
	} {
		if value != "" {
			h[deadPrefix+name] = value
		}
	}
	m.Headers = fitHeaders(h)
}

func clamp(n int) int { return max(0, min(n, math.MaxInt32)) }

// fitHeaders takes away the largest of the headers that are not ours until the
// rest fits.
func fitHeaders(h map[string]any) map[string]any {
	for wireSize(h) > maxDeadHeaders {
		largest, size := "", 0
		for name, v := range h {
			if n := wireSize(v); !strings.HasPrefix(name, deadPrefix) && (n > size || n == size && name < largest) {
				largest, size = name, n
			}
		}
		if size == 0 {
			break
		}
		delete(h, largest)
	}
	return h
}

// DecodeDeadLetter reads what a dead letter says about itself; ok is false
// when the message does not say that it is one. It is lenient: what cannot be
// read is left empty.
func DecodeDeadLetter(m *Message) (d DeadLetter, ok bool) {
	r := headerReader{table: m.Headers}
	reason := r.info(deadPrefix + "reason")
	if reason == "" {
		return DeadLetter{}, false
	}
	return DeadLetter{
		Reason:    Reason(reason),
		Error:     r.info(deadPrefix + "error"),
		Stack:     r.info(deadPrefix + "stack"),
		Queue:     r.info(deadPrefix + "queue"),
		Run:       r.count(deadPrefix + "run"),
		Attempts:  r.count(deadPrefix + "attempts"),
		Worker:    r.info(deadPrefix + "worker"),
		FirstTime: lenientTime(r.info(deadPrefix + "first")),
		LastTime:  lenientTime(r.info(deadPrefix + "last")),
	}, true
}

// lenientTime returns zero for what is not a time.
func lenientTime(s string) time.Time {
	t, err := parseTime(s)
	if err != nil {
		return time.Time{}
	}
	return t
}

package rabbitmq

import "time"

const (
	// historyMost bounds the samples of a queue. Beyond it every second one of the
	// older half goes, so that the older they are the further they are apart.
	historyMost = 256
	// rateOver is how far back rates look.
	rateOver = 15 * time.Second
)

// sample is how many messages have come into a queue and left it, counted from any
// beginning.
type sample struct {
	at      time.Time
	in, out float64
}

// history is what became of the length of a queue. The zero value is ready.
type history struct{ samples []sample }

func (h *history) add(s sample) {
	if n := len(h.samples); n > 0 && s.out < h.samples[n-1].out {
		h.samples = nil // the broker has begun to count anew
	}
	h.samples = append(h.samples, s)
	if len(h.samples) <= historyMost {
		return
	}
	kept := h.samples[:0]
	for i, s := range h.samples {
		if i >= historyMost/2 || i%2 == 0 {
			kept = append(kept, s)
		}
	}
	h.samples = kept
}

// rates are by the second; nil when there is nothing to compare with.
func (h *history) rates() (in, out *float64) {
	n := len(h.samples)
	if n < 2 {
		return nil, nil
	}
	last, from := h.samples[n-1], h.samples[n-2]
	for i := n - 2; i >= 0 && last.at.Sub(h.samples[i].at) <= rateOver+time.Second; i-- {
		from = h.samples[i]
	}
	over := last.at.Sub(from.at).Seconds()
	if over <= 0 {
		return nil, nil
	}
	// What was purged has not left by an ack: then fewer have come than are counted.
	return new(max(0, last.in-from.in) / over), new((last.out - from.out) / over)
}

// oldest is for how long the first of those that wait has done so, at least: since
// the first time at which more had come than have been handed out by now.
func (h *history) oldest(ready int) *time.Duration {
	if ready == 0 {
		return new(time.Duration(0))
	}
	last := h.samples[len(h.samples)-1]
	handedOut := last.in - float64(ready)
	for _, s := range h.samples {
		if s.in > handedOut {
			return new(last.at.Sub(s.at))
		}
	}
	return new(time.Duration(0))
}

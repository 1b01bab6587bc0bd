package messages

import (
	"encoding/json"
	"slices"
	"time"
)

const (
	// mostAttempts is how many past attempts a task remembers, and
	// longestAttempt how many bytes of the error of each: 4 kB at most.
	mostAttempts   = 10
	longestAttempt = 200
)

// PastAttempt is an attempt that has ended, as the attempts after it remember it.
type PastAttempt struct {
	// Run is [Task].Run, and Number counts the attempts of a run from 1.
	Run    int   `json:"run"`
	Number int   `json:"attempt"`
	State  State `json:"state"`
	// Worker had it. Error is type and text, cut to 200 bytes.
	Worker  string    `json:"worker,omitempty"`
	Error   string    `json:"error,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Remember returns past with one attempt more. It keeps the ten newest.
func Remember(past []PastAttempt, a PastAttempt) []PastAttempt {
	a.Error = clip(a.Error, longestAttempt)
	past = past[max(0, len(past)-mostAttempts+1):]
	return append(slices.Clip(past), a)
}

// PastAttempt is the attempt that the record is about, as the next one remembers
// it. It ended at DateDone, or at a time that is given.
func (r *Result) PastAttempt(ended time.Time) PastAttempt {
	a := PastAttempt{Run: r.Run, Number: r.Retries + 1, State: r.State, Worker: r.Worker, Started: r.DateStarted, Ended: r.DateDone}
	if a.Ended.IsZero() {
		a.Ended = ended
	}
	if r.Error != nil {
		a.Error = r.Error.Type + ": " + r.Error.Message
	}
	return a
}

// encodeAttempts writes them for a header, empty for none.
func encodeAttempts(past []PastAttempt) string {
	if len(past) == 0 {
		return ""
	}
	b, err := marshal(past)
	if err != nil {
		return "" // a time that JSON does not know
	}
	return string(b)
}

// decodeAttempts is lenient: what cannot be read is forgotten.
func decodeAttempts(text []byte) []PastAttempt {
	var past []PastAttempt
	if len(text) == 0 || json.Unmarshal(text, &past) != nil {
		return nil
	}
	past = past[max(0, len(past)-mostAttempts):]
	for i := range past {
		past[i].Worker, past[i].Error = clip(past[i].Worker, maxDeadName), clip(past[i].Error, longestAttempt)
	}
	return past
}

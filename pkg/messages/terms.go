package messages

import (
	"encoding/json"
	"slices"
)

// MaxIndexed is how many fields of an input can be indexed, and MaxTerm how many
// bytes the value of one may have to be.
const (
	MaxIndexed = 8
	MaxTerm    = 512
)

// Terms returns what a task can be found by: "field=value" of each of the fields
// that the input, an object, has at its top, where the value is a string, a
// number or a boolean and has no more than 512 bytes. A string stands without
// its quotes, a number as it was written.
func Terms(input json.RawMessage, fields []string) []string {
	if len(fields) == 0 {
		return nil
	}
	var terms []string
	for key, value := range members(input) {
		name := text(key)
		if len(value) > MaxTerm || !slices.Contains(fields, name) {
			continue
		}
		switch kind(value) {
		case '{', '[', 'n':
			continue
		case '"':
			terms = append(terms, name+"="+text(value))
		default:
			terms = append(terms, name+"="+string(value))
		}
	}
	return terms
}

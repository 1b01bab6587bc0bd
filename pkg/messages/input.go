package messages

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Input merges positional arguments, which take the names of params in order,
// and keyword arguments into one JSON object. Empty args or kwargs mean none.
// The error is an [*InvalidError] when args is not an array, kwargs is not an
// object, there are more arguments than params, or a name is given twice. The
// values are not copied through any Go type.
func Input(args, kwargs json.RawMessage, params []string) (json.RawMessage, error) {
	if rule := payloadRule(args, '['); rule != "" {
		return nil, &InvalidError{Field: "args", Rule: rule}
	}
	if rule := payloadRule(kwargs, '{'); rule != "" {
		return nil, &InvalidError{Field: "kwargs", Rule: rule}
	}
	out := make([]byte, 1, len(args)+len(kwargs)+16*len(params)+2)
	out[0] = '{'
	given := 0
	for value := range elements(args) {
		if given < len(params) {
			name, err := json.Marshal(params[given])
			if err != nil {
				return nil, fmt.Errorf("name parameter %d: %w", given, err)
			}
			out = appendMember(out, name, value)
		}
		given++
	}
	if given > len(params) {
		return nil, &InvalidError{Field: "args", Rule: fmt.Sprintf("takes at most %d values, got %d", len(params), given)}
	}
	for name, value := range members(kwargs) {
		if given > 0 {
			if key := text(name); slices.Contains(params[:given], key) {
				return nil, &InvalidError{Field: "kwargs." + key, Rule: "is given by position as well"}
			}
		}
		out = appendMember(out, name, value)
	}
	return append(out, '}'), nil
}

func appendMember(out, name, value []byte) []byte {
	if len(out) > 1 {
		out = append(out, ',')
	}
	out = append(out, name...)
	out = append(out, ':')
	return append(out, value...)
}

package messages

import "encoding/json"

// legacy reads a body that is an object. Without a header task it is protocol
// 1, where the body says everything and the headers are the sender's own; with
// one it is the hybrid, where the headers win over the body
// (celery/worker/strategy.py).
func (d *decoder) legacy(t *Task, body []byte) error {
	fields := make(map[string]json.RawMessage)
	for name, value := range members(body) {
		fields[text(name)] = value
	}
	_, hybrid := d.m.Headers["task"]
	d.r.table = legacyHeaders(d.m.Headers, fields, hybrid)
	if _, ok := d.r.table["task"]; !ok {
		return fault("it is not a task message: no header task and none in the body", nil)
	}
	args, kwargs := fields["args"], fields["kwargs"]
	switch {
	case args == nil && hybrid:
		return fault("the body is not [args, kwargs, embed]", nil)
	case args == nil:
		args = json.RawMessage("[]")
	}
	if kwargs == nil {
		kwargs = json.RawMessage("{}")
	}
	return payload(t, args, kwargs, legacyEmbed(fields))
}

// legacyHeaders makes the header table that protocol 2 would have had.
func legacyHeaders(headers map[string]any, fields map[string]json.RawMessage, hybrid bool) map[string]any {
	table := make(map[string]any, len(headers)+len(fields))
	for _, name := range []string{
		"task", "id", "root_id", "parent_id", "group", "shadow", "eta", "expires", "retries",
		"timelimit", "argsrepr", "kwargsrepr", "origin", "lang",
	} {
		if raw, ok := fields[name]; ok {
			table[name] = legacyValue(raw)
		}
	}
	// Protocol 1 calls the group a task set.
	if raw := fields["taskset"]; raw != nil && table["group"] == nil {
		table["group"] = legacyValue(raw)
	}
	for name, v := range headers {
		if hybrid || ownHeader(name) || !reservedHeader(name) {
			table[name] = v
		}
	}
	return table
}

// legacyValue returns a field as a Go value. A number too large for any is
// returned as text, which no field takes for a number.
func legacyValue(raw json.RawMessage) any {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return string(raw)
	}
	return v
}

// legacyEmbed makes the third part of a protocol 2 body.
func legacyEmbed(fields map[string]json.RawMessage) json.RawMessage {
	embed := []byte{'{'}
	for _, name := range []string{"callbacks", "errbacks", "chain", "chord"} {
		embed = appendMember(embed, []byte(`"`+name+`"`), orDefault(fields[name], "null"))
	}
	return append(embed, '}')
}

// Package apidoc works on the OpenAPI document of the gateway: it tells what in a
// newer one breaks the clients of an older one, and writes the reference in
// docs/api.md.
package apidoc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

type object = map[string]any

// Breaking lists what clients of the old document could trip over with the new
// one: calls, parameters and answers that are gone, requests that are refused which
// were accepted, and fields of answers that are gone or of another type. What is
// only added is not among them.
func Breaking(older, newer []byte) ([]string, error) {
	c := comparison{seen: map[[2]string]bool{}}
	if err := json.Unmarshal(older, &c.older); err != nil {
		return nil, fmt.Errorf("read the old document: %w", err)
	}
	if err := json.Unmarshal(newer, &c.newer); err != nil {
		return nil, fmt.Errorf("read the new document: %w", err)
	}
	for path, methods := range each(c.older["paths"]) {
		for method, operation := range each(methods) {
			at := strings.ToUpper(method) + " " + path
			now, there := dig(c.newer, "paths", path, method)
			if !there {
				c.say(at, "is gone")
				continue
			}
			c.operation(at, operation.(object), now)
		}
	}
	slices.Sort(c.found)
	return slices.Compact(c.found), nil
}

// comparison goes through two documents at the same time.
type comparison struct {
	older, newer object
	// seen are the pairs of references that were gone into, by direction.
	seen  map[[2]string]bool
	found []string
}

// direction is who writes what a schema describes.
type direction string

const (
	request direction = "request"
	answer  direction = "answer"
)

func (c *comparison) say(at, format string, args ...any) {
	c.found = append(c.found, at+": "+fmt.Sprintf(format, args...))
}

func (c *comparison) operation(at string, was, is object) {
	if was["operationId"] != is["operationId"] {
		c.say(at, "operationId is %v, was %v", is["operationId"], was["operationId"])
	}
	before, after := parameters(was), parameters(is)
	for name, p := range before {
		now, there := after[name]
		if !there {
			c.say(at, "parameter %s is gone", name)
			continue
		}
		if now["required"] == true && p["required"] != true {
			c.say(at, "parameter %s is required", name)
		}
		c.schema(at+" "+name, request, p["schema"], now["schema"])
	}
	for name, p := range after {
		if before[name] == nil && p["required"] == true {
			c.say(at, "new parameter %s is required", name)
		}
	}
	body, _ := was["requestBody"].(object)
	now, _ := is["requestBody"].(object)
	if now["required"] == true && body["required"] != true {
		c.say(at, "a body is required")
	}
	c.content(at+" body", request, body, now)
	for status, response := range each(was["responses"]) {
		now, there := dig(is, "responses", status)
		if !there {
			c.say(at, "answer %s is gone", status)
			continue
		}
		c.content(at+" "+status, answer, response.(object), now)
	}
}

func (c *comparison) content(at string, d direction, was, is object) {
	for kind, media := range each(was["content"]) {
		now, there := dig(is, "content", kind)
		if !there {
			c.say(at, "%s is gone", kind)
			continue
		}
		c.schema(at, d, media.(object)["schema"], now["schema"])
	}
}

// schema compares what may be sent or is answered. A schema that says nothing
// allows everything.
func (c *comparison) schema(at string, d direction, before, after any) {
	was, wasRef := resolve(c.older, before)
	is, isRef := resolve(c.newer, after)
	if key := [2]string{string(d) + wasRef, isRef}; wasRef != "" && isRef != "" {
		if c.seen[key] {
			return
		}
		c.seen[key] = true
		at = string(d) + " " + strings.TrimPrefix(wasRef, "#/components/schemas/")
	}
	// An answer may be no more than before, and a request no less.
	narrow, wide := was, is
	if d == request {
		narrow, wide = is, was
	}
	for _, missing := range lacking(types(narrow), types(wide)) {
		if len(types(narrow)) == 0 {
			break // it may be anything
		}
		c.say(at, "the type %s is %s", missing, map[direction]string{request: "refused", answer: "new"}[d])
	}
	if was["format"] != is["format"] && d == answer {
		c.say(at, "the format is %v, was %v", is["format"], was["format"])
	}
	if d == request {
		c.limits(at, was, is)
	}
	for name, property := range each(was["properties"]) {
		now, there := dig(is, "properties", name)
		if !there {
			if d == answer || is["additionalProperties"] == false {
				c.say(at, "%s is gone", name)
			}
			continue
		}
		c.schema(at+"."+name, d, property, now)
	}
	for _, name := range lacking(strs(wide["required"]), strs(narrow["required"])) {
		c.say(at, "%s is %s", name, map[direction]string{request: "required", answer: "no longer in every answer"}[d])
	}
	if was["items"] != nil {
		c.schema(at+"[]", d, was["items"], is["items"])
	}
	for _, choice := range []string{"oneOf", "anyOf", "allOf"} {
		before, _ := was[choice].([]any)
		after, _ := is[choice].([]any)
		if len(before) != len(after) {
			c.say(at, "%s has another number of schemas", choice)
			continue
		}
		for i := range before {
			c.schema(at, d, before[i], after[i])
		}
	}
}

// limits says what a request may no longer be.
func (c *comparison) limits(at string, was, is object) {
	for name, tighter := range map[string]func(was, is float64) bool{
		"minimum": above, "exclusiveMinimum": above, "minLength": above, "minItems": above,
		"maximum": below, "exclusiveMaximum": below, "maxLength": below, "maxItems": below,
	} {
		now, limited := is[name].(float64)
		before, had := was[name].(float64)
		if limited && (!had || tighter(before, now)) {
			c.say(at, "%s is %v, was %v", name, is[name], was[name])
		}
	}
	if is["pattern"] != was["pattern"] && is["pattern"] != nil {
		c.say(at, "the pattern is %v, was %v", is["pattern"], was["pattern"])
	}
	if is["enum"] != nil {
		for _, gone := range lacking(strs(is["enum"]), strs(was["enum"])) {
			c.say(at, "%s is refused", gone)
		}
		if was["enum"] == nil {
			c.say(at, "only %v is accepted", is["enum"])
		}
	}
}

func above(was, is float64) bool { return is > was }

func below(was, is float64) bool { return is < was }

// lacking returns what the first list lacks of the second.
func lacking(list, of []string) []string {
	return slices.DeleteFunc(slices.Clone(of), func(s string) bool { return slices.Contains(list, s) })
}

func types(schema object) []string {
	if one, ok := schema["type"].(string); ok {
		return []string{one}
	}
	return strs(schema["type"])
}

func strs(list any) (out []string) {
	values, _ := list.([]any)
	for _, v := range values {
		out = append(out, fmt.Sprint(v))
	}
	return out
}

// each goes through an object in the order of its keys.
func each(v any) func(yield func(string, any) bool) {
	o, _ := v.(object)
	return func(yield func(string, any) bool) {
		for _, key := range slices.Sorted(maps.Keys(o)) {
			if !yield(key, o[key]) {
				return
			}
		}
	}
}

func dig(o object, keys ...string) (object, bool) {
	for _, key := range keys {
		next, ok := o[key].(object)
		if !ok {
			return nil, false
		}
		o = next
	}
	return o, true
}

// resolve follows a reference within a document.
func resolve(doc object, schema any) (found object, ref string) {
	found, _ = schema.(object)
	ref, _ = found["$ref"].(string)
	if ref == "" {
		return found, ""
	}
	found, _ = dig(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	return found, ref
}

func parameters(operation object) map[string]object {
	found := map[string]object{}
	list, _ := operation["parameters"].([]any)
	for _, p := range list {
		p := p.(object)
		found[fmt.Sprint(p["in"], " ", p["name"])] = p
	}
	return found
}

package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/lovage-mq/lovage/pkg/client"
)

// field is one property of an input in a form.
type field struct {
	Name, Label, Description string
	// Kind is how it is entered: text, number, whole, choice, yesno or json.
	Kind     string
	Required bool
	// Value is the text in the form, Choices the values there are to choose.
	Value   string
	Choices []string
	enum    []json.RawMessage
	// Min, Max and Hint say what is allowed.
	Min, Max, Hint string
	Long           bool
	// Error is the rule that Value breaks.
	Error string
}

// property is what a form understands of a JSON Schema.
type property struct {
	Type        any               `json:"type"`
	Description string            `json:"description"`
	Enum        []json.RawMessage `json:"enum"`
	Default     json.RawMessage   `json:"default"`
	Minimum     json.Number       `json:"minimum"`
	Maximum     json.Number       `json:"maximum"`
	MinLength   int               `json:"minLength"`
	MaxLength   int               `json:"maxLength"`
	Format      string            `json:"format"`
}

// newFields makes a form of a task's schema. There is none where the schema does
// not say what properties there are.
func newFields(entry client.CatalogEntry) []field {
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Required   []string                   `json:"required"`
	}
	if json.Unmarshal(entry.Input, &schema) != nil || len(schema.Properties) == 0 {
		return nil
	}
	names := make([]string, 0, len(schema.Properties))
	for name := range schema.Properties {
		names = append(names, name)
	}
	place := func(name string) int {
		if i := slices.Index(entry.Params, name); i >= 0 {
			return i
		}
		return len(entry.Params)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(place(a)-place(b), strings.Compare(a, b)) })
	fields := make([]field, 0, len(names))
	for _, name := range names {
		fields = append(fields, newField(name, schema.Properties[name], slices.Contains(schema.Required, name)))
	}
	return fields
}

func newField(name string, raw json.RawMessage, required bool) field {
	f := field{Name: name, Kind: "json", Required: required}
	var p property
	if json.Unmarshal(raw, &p) != nil {
		return f // true, or what is no schema
	}
	f.Description = p.Description
	f.Min, f.Max = p.Minimum.String(), p.Maximum.String()
	switch {
	case len(p.Enum) > 0:
		f.Kind, f.enum = "choice", p.Enum
		for _, e := range p.Enum {
			f.Choices = append(f.Choices, plain(e))
		}
		if !slices.Contains(f.Choices, "") && (!required || len(p.Default) == 0) {
			f.Choices = append([]string{""}, f.Choices...)
		}
	case p.Type == "string":
		f.Kind, f.Long = "text", p.MaxLength == 0 || p.MaxLength > 300
		f.Hint = lengthHint(p)
	case p.Type == "integer":
		f.Kind, f.Hint = "whole", rangeHint(p)
	case p.Type == "number":
		f.Kind, f.Hint = "number", rangeHint(p)
	case p.Type == "boolean":
		f.Kind, f.Choices = "yesno", []string{"", "true", "false"}
	case p.Type == nil:
		f.Hint = "any JSON value"
	default:
		f.Hint = "JSON: " + strings.Trim(fmt.Sprint(p.Type), "[]")
	}
	if len(p.Default) > 0 {
		f.Value = f.text(p.Default)
	}
	return f
}

func lengthHint(p property) string {
	switch {
	case p.Format != "":
		return p.Format
	case p.MinLength > 1 && p.MaxLength > 0:
		return fmt.Sprintf("%d to %s characters", p.MinLength, grouped(p.MaxLength))
	case p.MaxLength > 0:
		return "up to " + grouped(p.MaxLength) + " characters"
	}
	return ""
}

func rangeHint(p property) string {
	switch {
	case p.Minimum != "" && p.Maximum != "":
		return fmt.Sprintf("%s to %s", p.Minimum, p.Maximum)
	case p.Minimum != "":
		return fmt.Sprintf("at least %s", p.Minimum)
	case p.Maximum != "":
		return fmt.Sprintf("at most %s", p.Maximum)
	}
	return ""
}

// plain is a value as it is written in a field: a string without quotes.
func plain(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// text is a value as the field shows it.
func (f field) text(raw json.RawMessage) string {
	if f.Kind == "json" {
		return pretty(raw)
	}
	return plain(raw)
}

// fill puts a task's input into the fields. It reports whether they hold all of
// it, as they must for it to be edited in them.
func fill(fields []field, input json.RawMessage) bool {
	values := map[string]json.RawMessage{}
	if json.Unmarshal(input, &values) != nil {
		return false
	}
	for i := range fields {
		value, given := values[fields[i].Name]
		fields[i].Value = ""
		if given {
			fields[i].Value = fields[i].text(value)
			again, _, err := fields[i].encode()
			// A browser sends other ends of lines than were given.
			if err != "" || !same(again, value) || strings.Contains(fields[i].Value, "\r") || len(fields[i].Choices) > 0 && !slices.Contains(fields[i].Choices, fields[i].Value) {
				return false
			}
		}
		delete(values, fields[i].Name)
	}
	return len(values) == 0
}

func same(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// read takes what was entered, and makes an input of it. It reports whether each
// field could be read.
func read(fields []field, form url.Values) (json.RawMessage, bool) {
	var b bytes.Buffer
	b.WriteByte('{')
	good := true
	for i := range fields {
		f := &fields[i]
		f.Value = strings.ReplaceAll(form.Get("in."+f.Name), "\r\n", "\n")
		value, given, err := f.encode()
		if f.Error = err; err != "" {
			good = false
		}
		if !given {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(f.Name) // a string always marshals
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), good
}

// encode is the value of a field as JSON. An empty one is not given, unless it
// is a text that is required: then the task's own rule says what is wrong.
func (f field) encode() (value json.RawMessage, given bool, fault string) {
	entered := strings.TrimSpace(f.Value)
	if entered == "" && !(f.Kind == "text" && (f.Required || f.Value != "")) {
		if f.Required {
			return nil, false, "is required"
		}
		return nil, false, ""
	}
	switch f.Kind {
	case "text":
	case "choice":
		for _, e := range f.enum {
			if plain(e) == f.Value {
				return e, true, ""
			}
		}
	case "whole":
		if _, err := strconv.ParseInt(entered, 10, 64); err != nil || !json.Valid([]byte(entered)) {
			return nil, false, "must be a whole number"
		}
		return json.RawMessage(entered), true, ""
	case "number":
		if !json.Valid([]byte(entered)) || strings.ContainsAny(entered[:1], `"[{tfn`) {
			return nil, false, "must be a number, such as 1.5"
		}
		return json.RawMessage(entered), true, ""
	default:
		if !json.Valid([]byte(entered)) {
			return nil, false, "must be JSON: texts in double quotes, objects in {}, lists in []"
		}
		return json.RawMessage(entered), true, ""
	}
	text, err := json.Marshal(f.Value)
	if err != nil {
		return nil, false, "cannot be sent"
	}
	return text, true, ""
}

// blame puts what the API says about an input beside its fields, and returns
// what belongs to none of them.
func blame(fields []field, errs []client.FieldError) []client.FieldError {
	var rest []client.FieldError
	for _, e := range errs {
		if i := owner(fields, e); i >= 0 {
			fields[i].Error = strings.TrimPrefix(fields[i].Error+"; "+e.Detail, "; ")
			continue
		}
		rest = append(rest, e)
	}
	return rest
}

func owner(fields []field, e client.FieldError) int {
	if e.Pointer == nil {
		return -1
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(*e.Pointer, "/"), "/")
	name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
	return slices.IndexFunc(fields, func(f field) bool { return f.Name == name })
}

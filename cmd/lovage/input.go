package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/lovage-mq/lovage/pkg/client"
)

// readJSON returns the JSON that an option stands for: itself, the content of
// "@file", or that of standard input for "-".
func (a *app) readJSON(option, text string) (json.RawMessage, error) {
	raw := []byte(text)
	var err error
	switch name, file := strings.CutPrefix(text, "@"); {
	case text == "-":
		raw, err = io.ReadAll(a.in)
	case file:
		raw, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, wrong("%s: %w", option, err)
	}
	raw = bytes.TrimSpace(raw)
	if !json.Valid(raw) {
		return nil, wrong("%s is no JSON: in a shell, put it in single quotes", option)
	}
	return raw, nil
}

// fieldsOf makes an input of key=value pairs. A value is text where the task
// says so; otherwise it is JSON, or text when it is none.
func (a *app) fieldsOf(ctx context.Context, task string, pairs []string) (json.RawMessage, error) {
	input := map[string]json.RawMessage{}
	var texts map[string]bool
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, wrong("-i %q: must be like name=value", pair)
		}
		if _, twice := input[key]; twice {
			return nil, wrong("-i %s is given twice", key)
		}
		raw := json.RawMessage(value)
		if json.Valid(raw) && texts == nil {
			var err error
			if texts, err = a.textFields(ctx, task); err != nil {
				return nil, err
			}
		}
		if !json.Valid(raw) || texts[key] {
			raw, _ = json.Marshal(value) // of a string
		}
		input[key] = raw
	}
	return json.Marshal(input)
}

// textFields are the fields of a task's input that are texts. Of a task that is
// not in the catalog nobody knows any.
func (a *app) textFields(ctx context.Context, task string) (map[string]bool, error) {
	catalog, err := ask(ctx, a, a.client.Catalog)
	texts := map[string]bool{}
	for _, e := range catalog {
		var schema struct {
			Properties map[string]struct {
				Type any `json:"type"`
			} `json:"properties"`
		}
		if e.Name != task || json.Unmarshal(e.Input, &schema) != nil {
			continue
		}
		for name, p := range schema.Properties {
			texts[name] = isText(p.Type)
		}
		return texts, nil
	}
	if _, refused := errors.AsType[*client.Problem](err); err != nil && !refused {
		return nil, err
	}
	return texts, nil
}

// isText reports whether a "type" of JSON Schema allows texts and nothing else
// but null.
func isText(kind any) bool {
	kinds, list := kind.([]any)
	if !list {
		return kind == "string"
	}
	kinds = slices.DeleteFunc(kinds, func(k any) bool { return k == "null" })
	return len(kinds) == 1 && kinds[0] == "string"
}

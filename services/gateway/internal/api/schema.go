package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// maxFieldErrors bounds an answer about an input that is wrong everywhere.
const maxFieldErrors = 1000

// noLoader keeps a schema from reaching for files and URLs.
type noLoader struct{}

// Load refuses.
func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema must stand alone, this one refers to %s", url)
}

// compileSchema compiles the JSON Schema of an input. Nil means that anything
// goes.
func compileSchema(raw json.RawMessage) (*jsonschema.Schema, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	const name = "urn:lovage:input"
	if object, ok := doc.(map[string]any); ok {
		// An $id of its own would only change what its references mean.
		delete(object, "$id")
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		return nil, err
	}
	return c.Compile(name)
}

// inputErrors checks an input and returns every field at fault, in order of
// their pointers.
func inputErrors(schema *jsonschema.Schema, input json.RawMessage) []fieldError {
	if schema == nil {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(input))
	if err != nil {
		return []fieldError{atPointer("", "must be JSON")}
	}
	err = schema.Validate(value)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []fieldError{atPointer("", err.Error())}
	}
	w := &schemaWalk{printer: message.NewPrinter(language.English)}
	w.leaves(invalid)
	return w.sorted()
}

// schemaWalk collects the leaves of a tree of schema errors.
type schemaWalk struct {
	printer *message.Printer
	found   []fieldError
}

func (w *schemaWalk) leaves(e *jsonschema.ValidationError) {
	if len(w.found) >= maxFieldErrors {
		return
	}
	at := pointerTo(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			w.found = append(w.found, atPointer(at+"/"+escapePointer(name), "is required"))
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			w.found = append(w.found, atPointer(at+"/"+escapePointer(name), "is not a field of this task"))
		}
	default:
		if len(e.Causes) == 0 {
			w.found = append(w.found, atPointer(at, ruleText(e.ErrorKind, w.printer)))
		}
		for _, cause := range e.Causes {
			w.leaves(cause)
		}
	}
}

// ruleText says which rule is broken, the common ones in plain words.
func ruleText(k jsonschema.ErrorKind, p *message.Printer) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("must be of type %s, got %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Minimum:
		return fmt.Sprintf("must be at least %s, got %s", decimal(k.Want), decimal(k.Got))
	case *kind.Maximum:
		return fmt.Sprintf("must be at most %s, got %s", decimal(k.Want), decimal(k.Got))
	case *kind.ExclusiveMinimum:
		return fmt.Sprintf("must be above %s, got %s", decimal(k.Want), decimal(k.Got))
	case *kind.ExclusiveMaximum:
		return fmt.Sprintf("must be below %s, got %s", decimal(k.Want), decimal(k.Got))
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters, got %d", k.Want, k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters, got %d", k.Want, k.Got)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d items, got %d", k.Want, k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d items, got %d", k.Want, k.Got)
	case *kind.Format:
		return "must be a " + k.Want
	default:
		return k.LocalizedString(p)
	}
}

// decimal writes a number without loss where it is a whole one of usual length.
func decimal(r *big.Rat) string {
	const longest = 40
	if s := r.RatString(); r.IsInt() && len(s) <= longest {
		return s
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// sorted orders by pointer, and drops what two branches of a schema both say and
// what is too much.
func (w *schemaWalk) sorted() []fieldError {
	slices.SortStableFunc(w.found, func(a, b fieldError) int {
		return cmp.Or(cmp.Compare(*a.Pointer, *b.Pointer), cmp.Compare(a.Detail, b.Detail))
	})
	w.found = slices.CompactFunc(w.found, func(a, b fieldError) bool {
		return *a.Pointer == *b.Pointer && a.Detail == b.Detail
	})
	return w.found[:min(len(w.found), maxFieldErrors)]
}

func pointerTo(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString("/" + escapePointer(t))
	}
	return b.String()
}

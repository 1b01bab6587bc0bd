package worker

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// fieldErrors turns what the validator says into one complaint a field, sorted.
// No complaint quotes a value: it ends up in logs, where payloads do not belong.
func fieldErrors(err error) error {
	top, ok := errors.AsType[*validator.ValidationError](err)
	if !ok {
		return invalid(&messages.InvalidError{Rule: err.Error()})
	}
	fields := collect(top, nil)
	slices.SortFunc(fields, func(a, b *messages.InvalidError) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Rule, b.Rule))
	})
	return invalid(fields...)
}

func collect(e *validator.ValidationError, fields []*messages.InvalidError) []*messages.InvalidError {
	at := pointer(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			fields = append(fields, &messages.InvalidError{Field: at + "/" + escapePointer(name), Rule: "is required"})
		}
		return fields
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			fields = append(fields, &messages.InvalidError{Field: at + "/" + escapePointer(name), Rule: "is not a known field"})
		}
		return fields
	case *kind.OneOf, *kind.AnyOf:
		return append(fields, alternatives(e)...)
	}
	if len(e.Causes) == 0 {
		return append(fields, &messages.InvalidError{Field: at, Rule: rule(e.ErrorKind)})
	}
	for _, cause := range e.Causes {
		fields = collect(cause, fields)
	}
	return fields
}

// alternatives tells what is wrong with each of the forms that a value can
// have. "null" is the form of a nullable field and not worth a word when there
// is another.
func alternatives(e *validator.ValidationError) []*messages.InvalidError {
	var fields []*messages.InvalidError
	forms := 0
	for _, cause := range e.Causes {
		if k, ok := cause.ErrorKind.(*kind.Type); ok && len(k.Want) == 1 && k.Want[0] == "null" {
			continue
		}
		forms++
		fields = collect(cause, fields)
	}
	at := pointer(e.InstanceLocation)
	switch forms {
	case 0:
		return []*messages.InvalidError{{Field: at, Rule: "must have exactly one of several forms, has more than one"}}
	case 1:
		return fields
	}
	texts := make([]string, 0, len(fields))
	for _, field := range fields {
		texts = append(texts, strings.TrimSpace(strings.TrimPrefix(field.Field, at+"/")+" "+field.Rule))
	}
	return []*messages.InvalidError{{Field: at, Rule: "must have one of several forms: " + strings.Join(texts, ", or ")}}
}

// rule is the complaint about a single value.
func rule(k validator.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("must be of type %s, is %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Minimum:
		return "must be at least " + decimal(k.Want)
	case *kind.Maximum:
		return "must be at most " + decimal(k.Want)
	case *kind.ExclusiveMinimum:
		return "must be more than " + decimal(k.Want)
	case *kind.ExclusiveMaximum:
		return "must be less than " + decimal(k.Want)
	case *kind.MultipleOf:
		return "must be a multiple of " + decimal(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters, has %d", k.Want, k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters, has %d", k.Want, k.Got)
	case *kind.Pattern:
		return "must match the pattern " + k.Want
	case *kind.Format:
		return "is not a valid " + k.Want
	case *kind.FalseSchema:
		return "is not allowed"
	}
	return k.LocalizedString(message.NewPrinter(language.English))
}

// decimal writes a bound as it stood in the schema: 300, 0.5.
func decimal(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return fmt.Sprint(f)
}

func pointer(path []string) string {
	var b strings.Builder
	for _, name := range path {
		b.WriteString("/" + escapePointer(name))
	}
	return b.String()
}

package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"

	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// decode turns the arguments of a task into *in. Its error is an
// [*InvalidInputError].
func (s *inputSchema) decode(t *messages.Task, in any) error {
	raw, err := messages.Input(t.Args, t.Kwargs, s.params)
	if err != nil {
		return invalid(asField(err))
	}
	value, err := parse(raw)
	if err != nil {
		return invalid(asField(err))
	}
	object, ok := value.(map[string]any)
	if !ok {
		return invalid(&messages.InvalidError{Rule: "must be an object"})
	}
	raw = s.fillIn(raw, object)
	if err := s.compiled.Validate(value); err != nil {
		return fieldErrors(err)
	}
	return s.assign(raw, value, in)
}

// fillIn adds the defaults of absent properties to both forms of the input.
func (s *inputSchema) fillIn(raw json.RawMessage, object map[string]any) json.RawMessage {
	for _, d := range s.defaults {
		if _, given := object[d.name]; given {
			continue
		}
		member := d.member
		if len(object) > 0 {
			member = append(slices.Clone(member), ',')
		}
		raw = slices.Concat([]byte("{"), member, raw[1:])
		object[d.name] = d.value
	}
	return raw
}

// assign decodes a valid input. JSON Schema takes 5.0 for an integer and Go
// does not, so a refused number gets a second chance in its plain form.
func (s *inputSchema) assign(raw json.RawMessage, value, in any) error {
	err := strict(raw, in)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && strings.HasPrefix(mismatch.Value, "number") {
		var plainRaw []byte
		if plainRaw, err = json.Marshal(plain(s.compiled, value)); err == nil {
			err = strict(plainRaw, in)
		}
	}
	if err != nil {
		return invalid(asField(err))
	}
	return nil
}

func strict(raw []byte, in any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	return decoder.Decode(in)
}

// plain returns the value with its integers written without point or exponent.
// It changes nothing in place: a default is shared by all tasks.
func plain(schema *validator.Schema, value any) any {
	if schema == nil {
		return value
	}
	switch v := value.(type) {
	case json.Number:
		if schema.Types != nil && slices.Contains(schema.Types.ToStrings(), "integer") {
			return plainNumber(v)
		}
	case map[string]any:
		object := make(map[string]any, len(v))
		for name := range v {
			object[name] = plain(schema.Properties[name], v[name])
		}
		return object
	case []any:
		array := make([]any, len(v))
		for i := range v {
			array[i] = plain(schema.Items2020, v[i])
		}
		return array
	}
	return value
}

func plainNumber(n json.Number) json.Number {
	if r, ok := new(big.Rat).SetString(n.String()); ok && r.IsInt() {
		return json.Number(r.Num().String())
	}
	return n
}

// maxNumber and maxExponent bound numbers to what a float64 or a generous
// integer can hold. The validator computes with exact fractions: of
// 1e999999 it would make a million digits, on 1e9999999 it panics.
const (
	maxNumber   = 1000
	maxExponent = 400
)

// parse reads JSON as the validator wants it, numbers as they are written. It
// refuses a name that an object has twice: the validator would look at one of
// the two and the decoder would merge both.
func parse(raw []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	value, err := parseValue(decoder, "")
	if err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the value")
	}
	return value, nil
}

func parseValue(decoder *json.Decoder, at string) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return parseObject(decoder, at)
		}
		return parseArray(decoder, at)
	case json.Number:
		return token, checkSize(token.String(), at)
	default:
		return token, nil
	}
}

func parseObject(decoder *json.Decoder, at string) (any, error) {
	object := make(map[string]any)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		below := at + "/" + escapePointer(name)
		if _, twice := object[name]; twice {
			return nil, &messages.InvalidError{Field: below, Rule: "is given twice"}
		}
		if object[name], err = parseValue(decoder, below); err != nil {
			return nil, err
		}
	}
	_, err := decoder.Token()
	return object, err
}

func parseArray(decoder *json.Decoder, at string) (any, error) {
	array := []any{}
	for decoder.More() {
		value, err := parseValue(decoder, at+"/"+strconv.Itoa(len(array)))
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := decoder.Token()
	return array, err
}

func checkSize(number, at string) error {
	tooLarge := len(number) > maxNumber
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		exponent, err := strconv.Atoi(number[i+1:])
		tooLarge = tooLarge || err != nil || exponent > maxExponent || exponent < -maxExponent
	}
	if tooLarge {
		return &messages.InvalidError{Field: at, Rule: "is a number out of range"}
	}
	return nil
}

func escapePointer(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

func invalid(fields ...*messages.InvalidError) error {
	return &InvalidInputError{Fields: fields}
}

// asField names the field that a decoder stumbled over, as far as it says.
func asField(err error) *messages.InvalidError {
	if field, ok := errors.AsType[*messages.InvalidError](err); ok {
		return field
	}
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &messages.InvalidError{
			Field: "/" + strings.ReplaceAll(mismatch.Field, ".", "/"),
			Rule:  fmt.Sprintf("does not fit into %s", mismatch.Type),
		}
	}
	return &messages.InvalidError{Rule: err.Error()}
}

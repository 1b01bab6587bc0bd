package worker

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

// inputSchema is what is known about the input of a task: derived, encoded and
// compiled once, at registration.
type inputSchema struct {
	raw      json.RawMessage
	params   []string
	defaults []propertyDefault
	compiled *validator.Schema
}

// propertyDefault is a member to add where an input does not have it.
type propertyDefault struct {
	name   string
	value  any
	member []byte
}

func newInputSchema(t reflect.Type) (*inputSchema, error) {
	t = element(t)
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return nil, fmt.Errorf("%s is not a struct: the fields of a struct are the parameters of a task", t)
	}
	schema, err := derive(t)
	if err != nil {
		return nil, err
	}
	if schema.Type != "object" || schema.Properties == nil {
		return nil, fmt.Errorf("%s does not describe itself as an object with properties", t)
	}
	s := &inputSchema{params: []string{}}
	for pair := schema.Properties.Oldest(); pair != nil; pair = pair.Next() {
		s.params = append(s.params, pair.Key)
		if err := s.addDefault(schema, pair.Key, pair.Value); err != nil {
			return nil, err
		}
	}
	return s, s.compile(schema)
}

// addDefault notes the default of a property, which nobody is required to give
// then.
func (s *inputSchema) addDefault(parent *jsonschema.Schema, name string, property *jsonschema.Schema) error {
	if property.Default == nil {
		return nil
	}
	parent.Required = slices.DeleteFunc(parent.Required, func(r string) bool { return r == name })
	key, err := json.Marshal(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	text, err := json.Marshal(property.Default)
	if err != nil {
		return fmt.Errorf("%s: default: %w", name, err)
	}
	value, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: default: %w", name, err)
	}
	s.defaults = append(s.defaults, propertyDefault{name: name, value: value, member: slices.Concat(key, []byte(":"), text)})
	return nil
}

// schemaURL names the schema in the compiler, which wants a name.
const schemaURL = "urn:lovage:input"

func (s *inputSchema) compile(schema *jsonschema.Schema) error {
	raw, err := json.Marshal(schema)
	if err != nil {
		return fmt.Errorf("encode schema: %w", err)
	}
	document, err := validator.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	compiler := validator.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(schemaURL, document); err != nil {
		return fmt.Errorf("compile schema: %w", err)
	}
	if s.compiled, err = compiler.Compile(schemaURL); err != nil {
		return fmt.Errorf("compile schema: %w", err)
	}
	s.raw = raw
	return s.checkDefaults()
}

// checkDefaults finds a default that its own property would refuse.
func (s *inputSchema) checkDefaults() error {
	for _, d := range s.defaults {
		if err := s.compiled.Properties[d.name].Validate(d.value); err != nil {
			return fmt.Errorf("%s: default %s: %w", d.name, d.member, fieldErrors(err))
		}
	}
	return nil
}

// outputSchema describes a result for the catalog. Only a struct has
// something to say; nothing validates with it.
func outputSchema(t reflect.Type) (json.RawMessage, error) {
	t = element(t)
	if t.Kind() != reflect.Struct || selfEncoded(t) {
		return nil, nil
	}
	schema, err := derive(t)
	if errors.Is(err, errRecursive) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(schema)
}

// derive reflects a type to a schema in one piece, without references.
func derive(t reflect.Type) (schema *jsonschema.Schema, err error) {
	if err := checkType(t); err != nil {
		return nil, err
	}
	// The library panics on types that JSON does not have.
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%s has no JSON Schema: %v", t, reason)
		}
	}()
	reflector := jsonschema.Reflector{Anonymous: true, DoNotReference: true, Mapper: selfDescribed}
	schema = reflector.ReflectFromType(t)
	schema.Version = ""
	return schema, nil
}

// selfDescribed gives the schema of types that encode themselves, which the
// library would describe by their fields.
func selfDescribed(t reflect.Type) *jsonschema.Schema {
	switch {
	case t == reflect.TypeFor[json.Number]():
		return &jsonschema.Schema{Type: "number"}
	case !selfEncoded(t), describesItself(t):
		return nil
	case implements[json.Unmarshaler](t), implements[json.Marshaler](t):
		return &jsonschema.Schema{}
	default:
		return &jsonschema.Schema{Type: "string"}
	}
}

// selfEncoded reports whether the JSON of t is its own affair.
func selfEncoded(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[json.RawMessage]():
		return false // known to the library
	}
	return implements[json.Unmarshaler](t) || implements[json.Marshaler](t) ||
		implements[encoding.TextUnmarshaler](t) || implements[encoding.TextMarshaler](t)
}

// describesItself reports whether t brings a schema of its own.
func describesItself(t reflect.Type) bool {
	return implements[interface{ JSONSchema() *jsonschema.Schema }](t) ||
		implements[interface{ JSONSchemaAlias() any }](t)
}

func implements[I any](t reflect.Type) bool {
	i := reflect.TypeFor[I]()
	return t.Implements(i) || reflect.PointerTo(t).Implements(i)
}

func element(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

package api

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

// The client has types of its own. They have the fields of the document, no
// more and no fewer, and each can hold what the document says.
func TestTheClientKnowsEveryField(t *testing.T) {
	t.Parallel()
	_, doc := openAPIOf(t, sleepEntry())
	for name, typ := range map[string]reflect.Type{
		"Task": reflect.TypeFor[client.Task](), "Progress": reflect.TypeFor[client.Progress](), "TaskError": reflect.TypeFor[client.TaskError](),
		"TaskChange": reflect.TypeFor[client.Event](),
		"Callback":   reflect.TypeFor[client.Callback](), "CallbackAttempt": reflect.TypeFor[client.CallbackAttempt](),
		"TaskList": reflect.TypeFor[client.Page](), "Problem": reflect.TypeFor[client.Problem](), "FieldError": reflect.TypeFor[client.FieldError](),
		"BatchAnswer": reflect.TypeFor[client.BatchAnswer](), "CatalogEntry": reflect.TypeFor[client.CatalogEntry](),
		"WorkerInfo": reflect.TypeFor[client.Worker](), "Health": reflect.TypeFor[client.Health](), "Queue": reflect.TypeFor[client.Queue](),
		"DeadLetter": reflect.TypeFor[client.DeadLetter](), "DeadLetterWhole": reflect.TypeFor[client.DeadLetterWhole](),
		"DeadList": reflect.TypeFor[client.DeadPage](), "DeadGroup": reflect.TypeFor[client.DeadGroup](), "Dealt": reflect.TypeFor[client.Dealt](),
		"AuditEntry": reflect.TypeFor[client.AuditEntry](), "AuditList": reflect.TypeFor[client.AuditPage](),
		"Operation": reflect.TypeFor[client.Operation](), "OperationFilter": reflect.TypeFor[client.OperationFilter](),
		"TaskOperation": reflect.TypeFor[client.TaskOperation](), "TaskSelection": reflect.TypeFor[client.TaskSelection](), "Counted": reflect.TypeFor[client.Counted](),
	} {
		properties := dig(t, doc, "components", "schemas", name, "properties")
		fields := jsonFields(typ)
		require.ElementsMatch(t, sortedKeys(properties), sortedKeys(fields), name)
		for field, is := range fields {
			require.Contains(t, kindsOf(properties[field]), jsonKind(is), "%s.%s", name, field)
		}
	}
}

// jsonFields are the fields of a struct by their names in JSON.
func jsonFields(typ reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(typ) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}

// kindsOf are the types that a schema allows, "any" when it does not say.
func kindsOf(schema any) []string {
	s, _ := schema.(map[string]any)
	var kinds []string
	switch is := s["type"].(type) {
	case string:
		kinds = append(kinds, is)
	case []any:
		for _, one := range is {
			kinds = append(kinds, one.(string))
		}
	}
	either, _ := s["oneOf"].([]any)
	for _, one := range either {
		kinds = append(kinds, kindsOf(one)...)
	}
	if s["$ref"] != nil {
		kinds = append(kinds, "object")
	}
	if len(kinds) == 0 {
		return []string{"any"}
	}
	if slices.Contains(kinds, "integer") {
		kinds = append(kinds, "number")
	}
	return kinds
}

// jsonKind is the type that a Go type has in JSON.
func jsonKind(typ reflect.Type) string {
	switch typ.String() {
	case "json.RawMessage":
		return "any"
	case "time.Time":
		return "string"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return jsonKind(typ.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	default:
		return "object"
	}
}

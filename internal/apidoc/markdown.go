package apidoc

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Reference writes the calls and the schemas of a document as Markdown, with
// headings below the second level.
func Reference(document []byte) (string, error) {
	var doc object
	if err := json.Unmarshal(document, &doc); err != nil {
		return "", fmt.Errorf("read the document: %w", err)
	}
	var out strings.Builder
	tags, _ := doc["tags"].([]any)
	for _, tag := range tags {
		name := tag.(object)["name"].(string)
		for path, methods := range each(doc["paths"]) {
			for method, operation := range each(methods) {
				if op := operation.(object); slices.Contains(strs(op["tags"]), name) {
					call(&out, strings.ToUpper(method)+" "+path, op)
				}
			}
		}
	}
	schemas, _ := dig(doc, "components", "schemas")
	for name, schema := range each(schemas) {
		fmt.Fprintf(&out, "### %s\n\n%s", name, sentence(schema.(object)))
		fields(&out, schema.(object))
	}
	return strings.TrimRight(out.String(), "\n") + "\n", nil
}

func call(out *strings.Builder, title string, op object) {
	fmt.Fprintf(out, "### %s\n\n%s\n\n", title, strings.TrimSpace(fmt.Sprintf("%v. %s", op["summary"], cell(op["description"]))))
	if list, _ := op["parameters"].([]any); len(list) > 0 {
		out.WriteString("| Parameter | In | Type | Meaning |\n| --- | --- | --- | --- |\n")
		for _, p := range list {
			p := p.(object)
			fmt.Fprintf(out, "| `%v` | %v | %s | %s |\n", p["name"], p["in"], kind(p["schema"], p["required"] == true), cell(p["description"]))
		}
		out.WriteString("\n")
	}
	body, _ := op["requestBody"].(object)
	for media, content := range each(body["content"]) {
		fmt.Fprintf(out, "%s\n\n", strings.TrimSpace(fmt.Sprintf("Body: `%s`, %s. %s", media, kind(content.(object)["schema"], false), cell(body["description"]))))
		if inline := content.(object)["schema"]; inline != nil {
			fields(out, inline.(object))
		}
	}
	out.WriteString("| Answer | Body | Meaning |\n| --- | --- | --- |\n")
	for status, response := range each(op["responses"]) {
		response := response.(object)
		what := "none"
		for _, content := range each(response["content"]) {
			what = kind(content.(object)["schema"], false)
		}
		if status == "default" {
			status = "any other"
		}
		fmt.Fprintf(out, "| %s | %s | %s |\n", status, what, cell(response["description"]))
	}
	out.WriteString("\n")
}

// fields is the table of what an object has.
func fields(out *strings.Builder, schema object) {
	properties, _ := schema["properties"].(object)
	if len(properties) == 0 {
		return
	}
	required := strs(schema["required"])
	out.WriteString("| Field | Type | Meaning |\n| --- | --- | --- |\n")
	for name, property := range each(properties) {
		fmt.Fprintf(out, "| `%s` | %s | %s |\n", name, kind(property, slices.Contains(required, name)), cell(property.(object)["description"]))
	}
	out.WriteString("\n")
}

func sentence(schema object) string {
	if text := cell(schema["description"]); text != "" {
		return text + "\n\n"
	}
	return ""
}

// kind says in a few words what a value may be.
func kind(v any, required bool) string {
	schema, _ := v.(object)
	text := bare(schema)
	var more []string
	if required {
		more = append(more, "required")
	}
	for _, limit := range [][2]string{
		{"minimum", "at least %v"},
		{"maximum", "at most %v"},
		{"minLength", "at least %v characters"},
		{"maxLength", "at most %v characters"},
		{"minItems", "at least %v items"},
		{"maxItems", "at most %v items"},
		{"default", "default `%v`"},
	} {
		if value := schema[limit[0]]; value != nil && value != "" {
			more = append(more, fmt.Sprintf(limit[1], number(value)))
		}
	}
	if values := strs(schema["enum"]); len(values) > 0 {
		more = append(more, "one of `"+strings.Join(values, "`, `")+"`")
	}
	return strings.Join(append([]string{text}, more...), ", ")
}

func bare(schema object) string {
	if ref, _ := schema["$ref"].(string); ref != "" {
		name := ref[strings.LastIndex(ref, "/")+1:]
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	}
	for _, choice := range []string{"oneOf", "anyOf", "allOf"} {
		if list, _ := schema[choice].([]any); len(list) > 0 {
			var names []string
			for _, one := range list {
				names = append(names, bare(one.(object)))
			}
			return strings.Join(names, " or ")
		}
	}
	var names []string
	for _, t := range types(schema) {
		switch format, _ := schema["format"].(string); {
		case t == "array":
			names = append(names, "array of "+kind(schema["items"], false))
		case t == "string" && format != "":
			names = append(names, format)
		default:
			names = append(names, t)
		}
	}
	if len(names) == 0 {
		return "any JSON"
	}
	return strings.Join(names, " or ")
}

// number writes a number as people do.
func number(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// cell is text that fits into a cell of a table.
func cell(text any) string {
	if text == nil {
		return ""
	}
	return strings.NewReplacer("\n", " ", "|", `\|`, "<", `\<`).Replace(strings.TrimSpace(fmt.Sprint(text)))
}

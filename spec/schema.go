package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// PlanSchemaJSON returns the JSON Schema (2020-12) of plans, for editors. It
// is made from the table of fields that Parse reads. What it accepts may still
// have findings: a schema cannot check a query, or two fields against each
// other. The slice belongs to the caller.
func PlanSchemaJSON() []byte {
	root := schemaOf{NewTable()}.object("", "")
	root = append(schema{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", "Plan of jobs for the devices of an IoT hub"},
	}, root...)
	compact, err := json.Marshal(root)
	if err != nil {
		panic("spec: the schema of plans is not JSON: " + err.Error())
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		panic("spec: the schema of plans is not JSON: " + err.Error())
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// schema is a JSON object that keeps the order of its members.
type schema []member

type member struct {
	key   string
	value any
}

// MarshalJSON writes the members in their order.
func (s schema) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, m := range s {
		if i > 0 {
			out = append(out, ',')
		}
		value, err := marshalPlain(m.value)
		if err != nil {
			return nil, err
		}
		out = append(append(AppendString(out, m.key), ':'), value...)
	}
	return append(out, '}'), nil
}

// marshalPlain leaves <, > and & as they are: nothing here is HTML.
func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

type schemaOf struct{ table Table }

// object describes the mapping at a path of the table.
func (s schemaOf) object(path, doc string) schema {
	var properties schema
	var required []string
	for _, f := range s.table[path] {
		properties = append(properties, member{f.Key(), s.Field(f)})
		if f.Required {
			required = append(required, f.Key())
		}
	}
	out := schema{{"type", "object"}}
	if doc != "" {
		out = append(out, member{"description", doc})
	}
	out = append(out, member{"properties", properties})
	if len(required) > 0 {
		out = append(out, member{"required", required})
	}
	out = append(out, member{"additionalProperties", false})
	if path == "jobs[]" {
		out = append(out, member{"allOf", s.jobRules()})
	}
	return out
}

// jobRules are the rules over several fields that help while typing.
func (s schemaOf) jobRules() []any {
	foreign := map[JobType]schema{}
	for _, f := range s.table["jobs[]"] {
		switch f.Only {
		case TypeDirectMethod:
			foreign[TypeUpdateTwin] = append(foreign[TypeUpdateTwin], member{f.Key(), false})
		case TypeUpdateTwin:
			foreign[TypeDirectMethod] = append(foreign[TypeDirectMethod], member{f.Key(), false})
		}
	}
	needs := func(keys ...string) schema { return schema{{"required", keys}} }
	ifType := func(t JobType, rest schema) schema {
		return schema{
			{"if", schema{{"properties", schema{{"type", schema{{"const", t}}}}}, {"required", []string{"type"}}}},
			{"then", append(schema{{"properties", foreign[t]}}, rest...)},
		}
	}
	return []any{
		ifType(TypeDirectMethod, schema{{"required", []string{"method"}}, {"not", needs("payload", "payloadFile")}}),
		ifType(TypeUpdateTwin, schema{{"anyOf", []any{needs("desired"), needs("tags")}}}),
		schema{{"not", needs("delay", "at")}},
	}
}

// Field describes the value of a field, its list if it takes one.
func (s schemaOf) Field(f Field) schema {
	var value schema
	switch {
	case f.Path == "defaults":
		value = s.defaults()
	case f.List:
		value = schema{{"type", "array"}, {"minItems", 1}, {"items", s.value(f)}}
	case f.Type == FieldNames:
		value = schema{
			{"type", "object"},
			{"propertyNames", schema{{"pattern", "^[A-Za-z][A-Za-z0-9_-]*$"}}},
			{"additionalProperties", either(scalarSchema(), s.object(f.Path+"[]", ""))},
		}
	default:
		value = s.value(f)
	}
	return append(schema{{"description", f.describe()}}, append(value, examples(f)...)...)
}

func (s schemaOf) defaults() schema {
	var properties schema
	for _, f := range s.table["jobs[]"] {
		if f.Shared {
			properties = append(properties, member{f.Key(), s.Field(f)})
		}
	}
	return schema{{"type", "object"}, {"properties", properties}, {"additionalProperties", false}}
}

// value describes one value of a field's type. Wherever a value has a form of
// its own, a text with a variable may stand for it.
func (s schemaOf) value(f Field) schema {
	switch f.Type { //nolint:exhaustive // scalarOf has the rest
	case FieldObject:
		path := f.Path
		if f.List {
			path += "[]"
		}
		object := s.object(path, "")
		if f.Short != "" {
			return either(s.short(path+"."+f.Short), object)
		}
		return object
	case FieldJSON:
		return schema{}
	case FieldJSONMap:
		return either(schema{{"type", "object"}, {"minProperties", 1}, {"propertyNames", schema{{"pattern", `^[^.$#\s]+$`}}}}, pattern(`^\$\{row\.[^}]+\}$`))
	case FieldStatuses:
		one := orVariable(bounded(schema{{"type", "integer"}}, f), pattern(`^\s*[0-9]+\s*(-\s*[0-9]+\s*)?$`))
		return either(one, schema{{"type", "array"}, {"minItems", 1}, {"items", one}})
	default:
		return scalarOf(f)
	}
}

// short describes a value that stands for a mapping.
func (s schemaOf) short(path string) schema {
	if f, _ := s.table.Field(path); f.Type != FieldText {
		return scalarOf(f)
	}
	return schema{{"type", "string"}, {"minLength", 1}}
}

// scalarOf describes a value that is a scalar in YAML.
func scalarOf(f Field) schema {
	switch f.Type { //nolint:exhaustive // the others are not scalars
	case FieldScalar:
		return scalarSchema()
	case FieldText:
		return textSchema(f)
	case FieldInteger:
		return orVariable(bounded(schema{{"type", "integer"}}, f))
	case FieldNumber:
		return orVariable(bounded(schema{{"type", "number"}}, f))
	case FieldBoolean:
		return orVariable(schema{{"type", "boolean"}})
	case FieldShare:
		return orVariable(schema{{"type", "integer"}, {"minimum", 0}}, pattern(`^([0-9]+|[0-9]*\.?[0-9]*%)$`))
	case FieldDuration:
		duration := pattern(`^-?([0-9.]+d)?([0-9.]+(ns|us|µs|μs|ms|s|m|h))*$`)
		if len(f.Values) > 0 {
			return orVariable(duration, schema{{"enum", f.Values}})
		}
		return orVariable(duration)
	case FieldRate:
		return orVariable(pattern(`^[0-9.]+/[smh]$`))
	case FieldTime:
		return orVariable(pattern(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})?$`))
	case FieldClock:
		return orVariable(pattern(`^([01][0-9]|2[0-3]):[0-5][0-9]$`))
	}
	panic("spec: no schema for fields of type " + string(f.Type))
}

func textSchema(f Field) schema {
	switch {
	case len(f.Values) > 0:
		return orVariable(schema{{"enum", f.Values}})
	case f.Format == "name":
		return orVariable(pattern(ExprName.String()))
	case f.Format == "hostName":
		return orVariable(pattern(ExprHost.String()))
	case f.Format == "envName":
		return orVariable(pattern(`^[A-Za-z_][A-Za-z0-9_]*$`))
	case f.Format == "deviceID":
		const id = `[A-Za-z0-9:.+%_#*?!(),=@;$'-]{1,128}`
		return orVariable(pattern("^" + id + "(/" + id + ")?$"))
	}
	return schema{{"type", "string"}}
}

func pattern(expr string) schema { return schema{{"type", "string"}, {"pattern", expr}} }

func scalarSchema() schema { return schema{{"type", []string{"string", "number", "boolean"}}} }

func either(of ...schema) schema {
	all := make([]any, len(of))
	for i, s := range of {
		all[i] = s
	}
	return schema{{"anyOf", all}}
}

func orVariable(of ...schema) schema {
	return either(append(of, pattern(`\$\{var\.`))...)
}

func bounded(s schema, f Field) schema {
	if n, err := strconv.ParseFloat(f.Min, 64); err == nil {
		s = append(s, member{"minimum", n})
	}
	if n, err := strconv.ParseFloat(f.Max, 64); err == nil {
		s = append(s, member{"maximum", n})
	}
	return s
}

// describe writes the field's sentence with what holds when it is absent, and
// its limits.
func (f Field) describe() string {
	text := f.Doc
	if f.Default != "" {
		text += fmt.Sprintf(" Default: %s.", f.Default)
	}
	if f.Min != "" || f.Max != "" {
		text += fmt.Sprintf(" Limits: %s.", f.Limits())
	}
	if f.Only != "" {
		text += fmt.Sprintf(" Only for %s.", f.Only)
	}
	return text
}

func examples(f Field) schema {
	var value any
	if err := yaml.Unmarshal([]byte(f.Example), &value); err != nil {
		panic(fmt.Sprintf("spec: the example of %s is not YAML: %v", f.Path, err))
	}
	if f.Type == FieldTime || f.Type == FieldRate || f.Type == FieldDuration {
		value = strings.Trim(f.Example, `"`)
	}
	return schema{{"examples", []any{value}}}
}

var (
	// ExprName is the form of names.
	ExprName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	// ExprHost is the form of host names.
	ExprHost = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]{1,5})?$`)
	// ExprNot is what no name has.
	ExprNot = regexp.MustCompile(`[^a-z0-9]+`)
)

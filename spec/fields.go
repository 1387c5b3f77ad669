package spec

import "strings"

// FieldType says which values a field takes.
type FieldType string

// The field types.
const (
	FieldText     FieldType = "string"
	FieldInteger  FieldType = "integer"
	FieldNumber   FieldType = "number"
	FieldBoolean  FieldType = "boolean"
	FieldDuration FieldType = "duration" // Go's syntax plus d for days
	FieldRate     FieldType = "rate"     // 40/s, 300/m, 10/h
	FieldTime     FieldType = "time"     // RFC 3339; the seconds and the offset may be left out
	FieldClock    FieldType = "clock"    // 02:00
	FieldShare    FieldType = "share"    // a count, or 10%
	FieldStatuses FieldType = "statuses" // 200, "200-299" or a list of them
	FieldJSON     FieldType = "any"      // any value that JSON can hold
	FieldScalar   FieldType = "scalar"   // a text, a number, or true or false
	FieldJSONMap  FieldType = "map"      // a mapping with keys of the author's own
	FieldObject   FieldType = "object"   // a mapping with the fields below it
	FieldNames    FieldType = "names"    // a mapping of names to mappings with the fields below it
)

// Field describes one key of the plan. The parser, the validator, the JSON
// Schema, the reference documentation and explain all read it, so that none of
// them can disagree.
type Field struct {
	Path     string // as in "jobs[].retry.attempts"; [] stands for each element
	Type     FieldType
	List     bool // a list of Type
	Required bool
	Default  string // what holds when the field is absent; empty if nothing does
	Min, Max string // limits in the field's own notation; empty if unbounded
	Values   []string
	Format   string   // the name of a rule for the text: name, hostName, deviceID...
	Short    string   // for a mapping: the key that a value alone stands for
	Only     JobType  // the job type that the field belongs to; empty for all
	Shared   bool     // may stand under defaults
	Synonyms []string // what people write when they mean this field
	Doc      string
	Example  string // a value, in YAML
}

// Key returns the last step of the field's path.
func (f Field) Key() string {
	return strings.TrimSuffix(f.Path[strings.LastIndexByte(f.Path, '.')+1:], "[]")
}

// Parent returns the path of the mapping that holds the field; the plan's own
// is empty.
func (f Field) Parent() string {
	return f.Path[:max(strings.LastIndexByte(f.Path, '.'), 0)]
}

// Limits writes the limits of a field for people.
func (f Field) Limits() string {
	switch {
	case f.Min != "" && f.Min == f.Max:
		return f.Min
	case f.Min != "" && f.Max != "":
		return f.Min + " to " + f.Max
	case f.Min != "":
		return f.Min + " or more"
	case f.Max != "":
		return "at most " + f.Max
	case len(f.Values) > 0:
		return Join(f.Values, "or")
	case f.Format == "name":
		return "1 to 64 of a-z, 0-9 and -"
	}
	return ""
}

// Fields lists every key of the plan, each mapping before the keys in it. The
// keys under defaults are not repeated: they are those of a job with Shared.
func Fields() []Field {
	var all []Field
	for _, part := range [][]Field{planFields(), jobFields(), targetFields(), methodFields(), policyFields(), rolloutFields()} {
		all = append(all, part...)
	}
	return all
}

// Table is the fields by the path of the mapping that holds them.
type Table map[string][]Field

// NewTable returns the table of all fields.
func NewTable() Table {
	t := Table{}
	for _, f := range Fields() {
		t[f.Parent()] = append(t[f.Parent()], f)
	}
	return t
}

// TablePath maps the place of a value to its path in the table: indexes go,
// and what stands under defaults is a job's.
func TablePath(place string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(place, "[")
		b.WriteString(before)
		if !found {
			break
		}
		b.WriteString("[]")
		_, place, _ = strings.Cut(rest, "]")
	}
	path := b.String()
	if path == "defaults" {
		return "jobs[]"
	}
	if rest, ok := strings.CutPrefix(path, "defaults."); ok {
		return "jobs[]." + rest
	}
	return path
}

// Field returns the field at a place.
func (t Table) Field(place string) (Field, bool) {
	path := strings.TrimSuffix(TablePath(place), "[]")
	if place == "defaults" { // the field, not the job that its keys mirror
		path = place
	}
	for _, f := range t[Field{Path: path}.Parent()] {
		if f.Path == path {
			return f, true
		}
	}
	return Field{}, false
}

// The types of variables.
const (
	VarString  = "string"
	VarInteger = "integer"
	VarNumber  = "number"
	VarBoolean = "boolean"
)

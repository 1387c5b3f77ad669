package fleet_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"iothub-runner/internal/emulator/fleet"
)

// The schema refuses what Parse refuses, but for the files that say in their
// first line that it cannot know better, and accepts what Parse accepts.
func TestSchemaAgreesWithParse(t *testing.T) {
	schema := compileSchema(t)
	for _, file := range corpus(t, "testdata/ok") {
		if err := validate(t, schema, read(t, file)); err != nil {
			t.Errorf("the schema refuses %s: %v", file, err)
		}
	}
	for _, file := range corpus(t, "testdata/err") {
		src := read(t, file)
		excused := bytes.HasPrefix(src, []byte("# schema: accepts\n"))
		err := validate(t, schema, src)
		if errors.Is(err, errNotYAML) {
			err = nil // out of the schema's sight
		}
		if accepted := err == nil; accepted != excused {
			t.Errorf("%s: the schema accepts it: %t, its first line says: %t (%v)", file, accepted, excused, err)
		}
	}
}

func TestSchemaAcceptsExamples(t *testing.T) {
	schema := compileSchema(t)
	for _, file := range corpus(t, filepath.Join("..", "..", "..", "examples", "fleets")) {
		if err := validate(t, schema, read(t, file)); err != nil {
			t.Errorf("the schema refuses %s: %v", file, err)
		}
	}
}

// The schema knows the same keys as the parser, the same words, and describes
// every key.
func TestSchemaHasTheKeysOfTheParser(t *testing.T) {
	var root schemaNode
	if err := json.Unmarshal(fleet.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	defs := map[string]string{"follow": "followPart"}
	for _, s := range fleet.Sections() {
		node := &root
		switch {
		case s.Name == "delay":
			node = root.Defs["delay"].Then
		case s.Name != "fleet file":
			name := s.Name
			if defs[name] != "" {
				name = defs[name]
			}
			node = root.Defs[name]
		}
		if node == nil {
			t.Errorf("the schema has no definition for %s", s.Name)
			continue
		}
		var want, got []string
		for _, k := range s.Keys {
			want = append(want, k.Name)
			if p := node.Properties[k.Name]; p == nil || p.Description == "" {
				t.Errorf("the schema does not describe %s in %s", k.Name, s.Name)
			}
		}
		for name := range node.Properties {
			got = append(got, name)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("keys of %s (-parser +schema):\n%s", s.Name, diff)
		}
	}
	fault := root.Defs["fault"]
	checkWords(t, fault.Properties["fault"].Enum, fleet.FaultKinds())
	checkWords(t, fault.Properties["operations"].Items.Enum, fleet.Operations())
}

func checkWords[T ~string](tb testing.TB, schema []string, words []T) {
	tb.Helper()
	var want []string
	for _, w := range words {
		want = append(want, string(w))
	}
	if diff := cmp.Diff(want, schema); diff != "" {
		tb.Errorf("words (-parser +schema):\n%s", diff)
	}
}

type schemaNode struct {
	Description string                 `json:"description"`
	Properties  map[string]*schemaNode `json:"properties"`
	Defs        map[string]*schemaNode `json:"$defs"`
	Then        *schemaNode            `json:"then"`
	Items       *schemaNode            `json:"items"`
	Enum        []string               `json:"enum"`
}

// UnmarshalJSON takes true and false for empty schemas, and only enums of words.
func (n *schemaNode) UnmarshalJSON(text []byte) error {
	if text[0] != '{' {
		return nil
	}
	type plain schemaNode
	return json.Unmarshal(text, (*plain)(n))
}

// The reference shows every key of the parser with what it means.
func TestReferenceHasEveryKey(t *testing.T) {
	doc := string(read(t, filepath.Join("..", "..", "..", "docs", "fleets.md")))
	for _, s := range fleet.Sections() {
		for _, k := range s.Keys {
			row := fmt.Sprintf("| `%s` | %s | %s |", k.Name, k.Type, k.Doc)
			if !strings.Contains(doc, row) {
				t.Errorf("docs/fleets.md lacks, for %s, the row\n%s", s.Name, row)
			}
		}
	}
}

// Every block of the reference that is a fleet file is a valid one.
func TestReferenceIsValid(t *testing.T) {
	doc := string(read(t, filepath.Join("..", "..", "..", "docs", "fleets.md")))
	blocks := strings.Split(doc, "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("docs/fleets.md shows no file")
	}
	for i, b := range blocks {
		text, _, _ := strings.Cut(b, "```")
		if !strings.Contains(text, "version: 1") {
			text = "version: 1\n" + text
		}
		if _, err := fleet.Parse(fmt.Sprintf("block %d", i), []byte(text)); err != nil {
			t.Errorf("docs/fleets.md:\n%s\n%v", text, err)
		}
	}
}

func compileSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(fleet.Schema()))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err = c.AddResource("fleet.schema.json", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("fleet.schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

var errNotYAML = errors.New("not YAML that can be turned into JSON")

func validate(tb testing.TB, s *jsonschema.Schema, src []byte) error {
	tb.Helper()
	var v any
	if err := yaml.Unmarshal(src, &v); err != nil {
		return errNotYAML
	}
	text, err := json.Marshal(named(v))
	if err != nil {
		return errNotYAML
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	return s.Validate(doc)
}

// named gives every key a name, as JSON wants it.
func named(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = named(v[k])
		}
	case map[any]any:
		out := map[string]any{}
		for k := range v {
			out[fmt.Sprint(k)] = named(v[k])
		}
		return out
	case []any:
		for i := range v {
			v[i] = named(v[i])
		}
	}
	return v
}

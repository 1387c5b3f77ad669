package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"iothub-runner/spec"
)

var update = flag.Bool("update", false, "rewrite the generated pages")

// TestGeneratedPages keeps the pages that are made of the program what it makes of them.
func TestGeneratedPages(t *testing.T) {
	for page, text := range map[string]string{"commands.md": commandsPage(), "report.md": reportPage(t)} {
		file := "../../docs/" + page
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text, string(have)); diff != "" {
			t.Errorf("docs/%s is not what go test ./cmd/runner -run Generated -update makes (-made +page):\n%s", page, diff)
		}
	}
}

// commandsPage lists every command with its flags, as its help has them.
func commandsPage() string {
	var b strings.Builder
	b.WriteString("# Commands\n\nThis page is made of the program's own help; a test keeps the two equal. `runner COMMAND --help` says the same.\n")
	var add func(cmd *cobra.Command)
	add = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n```\n%s\n```\n", cmd.CommandPath(), cell(firstOf(cmd.Long, cmd.Short)), cmd.UseLine())
		if cmd.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", strings.TrimSuffix(unindent(cmd.Example), "\n"))
		}
		flags := "\n| Flag | Default | |\n|---|---|---|\n"
		n := 0
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" {
				return
			}
			name, usage := pflag.UnquoteUsage(f)
			flag := "`--" + f.Name
			if f.Shorthand != "" {
				flag = "`-" + f.Shorthand + ", --" + f.Name
			}
			if name != "" {
				flag += " " + name
			}
			value := f.DefValue
			if value != "" && value != "[]" && value != "false" && value != "0" && value != "0s" {
				value = "`" + value + "`"
			} else {
				value = ""
			}
			flags += fmt.Sprintf("| %s` | %s | %s |\n", strings.ReplaceAll(flag, "|", `\|`), value, strings.ReplaceAll(usage, "|", `\|`))
			n++
		})
		if n > 0 {
			b.WriteString(flags)
		}
		for _, sub := range cmd.Commands() {
			add(sub)
		}
	}
	for _, cmd := range newRoot(environment{getenv: func(string) string { return "" }}).Commands() {
		add(cmd)
	}
	return b.String()
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// cell is a help text as a paragraph: it is wrapped for a terminal.
func cell(text string) string {
	paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, "  ") {
			paragraphs[i] = "```\n" + unindent(p) + "\n```"
		} else {
			paragraphs[i] = strings.ReplaceAll(p, "\n", " ")
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

// schemaNode is what this page needs of a schema.
type schemaNode struct {
	Ref         string `json:"$ref"`
	Description string
	Type        any
	Enum        []string
	Const       any
	Properties  map[string]*schemaNode
	Required    []string
	Items       *schemaNode
	Minimum     *float64
	Defs        map[string]*schemaNode `json:"$defs"`
}

// reportPage describes each object of a report, out of its schema.
func reportPage(t *testing.T) string {
	t.Helper()
	var root schemaNode
	if err := json.Unmarshal(spec.ReportSchemaJSON(), &root); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# The report\n\nThis page is made of [report.schema.json](../spec/report.schema.json), which describes the document in full; a test keeps the two equal.\n" +
		"Rows are sorted by device, then module, then hub. Times are RFC 3339 in UTC, durations are in milliseconds.\n")
	section := func(title string, n *schemaNode) {
		fmt.Fprintf(&b, "\n## %s\n", title)
		if n.Description != "" {
			fmt.Fprintf(&b, "\n%s\n", n.Description)
		}
		b.WriteString("\n| Key | Value | |\n|---|---|---|\n")
		for _, key := range slices.Sorted(mapKeys(n.Properties)) {
			p := n.Properties[key]
			note := p.Description
			if !slices.Contains(n.Required, key) && !strings.Contains(note, "issing") && !strings.Contains(note, "nly") && !strings.Contains(note, "bsent") {
				note = strings.TrimSpace(note + " May be missing.")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, kindOfNode(p), strings.ReplaceAll(note, "|", `\|`))
		}
	}
	section("report", &root)
	for _, name := range slices.Sorted(mapKeys(root.Defs)) {
		if d := root.Defs[name]; len(d.Properties) > 0 {
			section(name, d)
		}
	}
	return b.String()
}

func mapKeys(m map[string]*schemaNode) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

func kindOfNode(n *schemaNode) string {
	switch {
	case n.Ref != "":
		name := strings.TrimPrefix(n.Ref, "#/$defs/")
		switch name {
		case "count", "time", "outcome", "outcomes":
			return name
		}
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	case n.Items != nil:
		return "list of " + kindOfNode(n.Items)
	case len(n.Enum) > 0:
		return "`" + strings.Join(n.Enum, "`, `") + "`"
	case n.Const != nil:
		return fmt.Sprintf("`%v`", n.Const)
	case n.Type != nil:
		return fmt.Sprint(n.Type)
	}
	return "any"
}

package spec

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNoField is returned by Explain for a field that plans do not have.
var ErrNoField = errors.New("no such field")

// Explain says what a field of the plan is: type, default, limits, keys, an
// example. The field is named by its path, with or without brackets, as in
// "jobs.retry.backoff"; a part of it will do if that is clear. An empty name
// stands for the plan itself.
func Explain(name string) (string, error) {
	t := NewTable()
	if name == "" || name == "plan" {
		return "A plan has these keys.\n" + t.keyList(""), nil
	}
	f, err := findField(name)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n  %s\n", shownPath(f.Path), f.typeName(), f.Doc)
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-9s%s\n", label, text)
		}
	}
	b.WriteByte('\n')
	if f.Required {
		line("required", "yes")
	}
	line("default", f.Default)
	line("limits", f.Limits())
	if f.Only != "" {
		line("for", "jobs of type "+string(f.Only))
	}
	if f.Shared {
		line("also", "under defaults")
	}
	line("example", f.Key()+": "+f.Example)
	if keys := t.keyList(f.childPath()); keys != "" {
		fmt.Fprintf(&b, "\nIts keys:\n%s", keys)
	}
	return b.String(), nil
}

// childPath is where the table has the keys of the field's value.
func (f Field) childPath() string {
	switch {
	case f.Path == "defaults":
		return "defaults"
	case f.List || f.Type == FieldNames:
		return f.Path + "[]"
	}
	return f.Path
}

// children lists the fields of a mapping; those of defaults are a job's.
func (t Table) children(path string) []Field {
	if path != "defaults" {
		return t[path]
	}
	return slices.DeleteFunc(slices.Clone(t["jobs[]"]), func(f Field) bool { return !f.Shared })
}

func (t Table) keyList(path string) string {
	var b strings.Builder
	for _, f := range t.children(path) {
		fmt.Fprintf(&b, "  %-16s %s\n", f.Key(), f.Doc)
	}
	return b.String()
}

// findField finds the field that a person names.
func findField(name string) (Field, error) {
	wanted := strings.ToLower(strings.NewReplacer("[]", "", "NAME.", "").Replace(name))
	wanted = strings.Replace(wanted, "defaults.", "jobs.", 1)
	var matches []Field
	var paths []string
	for _, f := range Fields() {
		path := strings.ToLower(strings.ReplaceAll(f.Path, "[]", ""))
		if path == wanted || path == "jobs."+wanted {
			return f, nil
		}
		if strings.HasSuffix(path, "."+wanted) {
			matches = append(matches, f)
		}
		paths = append(paths, path, strings.TrimPrefix(path, "jobs."), path[strings.LastIndexByte(path, '.')+1:])
	}
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		if like := Closest(wanted, paths); like != "" {
			return Field{}, fmt.Errorf("field %q: %w; did you mean %q?", name, ErrNoField, like)
		}
		return Field{}, fmt.Errorf("field %q: %w", name, ErrNoField)
	}
	var names []string
	for _, f := range matches {
		names = append(names, shownPath(f.Path))
	}
	return Field{}, fmt.Errorf("field %q: %w; it may be %s", name, ErrNoField, Join(names, "or"))
}

// shownPath writes a path as people read it.
func shownPath(path string) string { return strings.ReplaceAll(path, "vars[]", "vars.NAME") }

// typeName says in words what a field takes.
func (f Field) typeName() string {
	name := map[FieldType]string{
		FieldText: "text", FieldInteger: "whole number", FieldBoolean: "true or false", FieldDuration: "duration, as in 10s, 15m, 1h30m or 2d",
		FieldRate: "rate, as in 40/s, 300/m or 10/h", FieldTime: "time, RFC 3339", FieldClock: "time of day", FieldShare: "count, or share such as 10%",
		FieldStatuses: "status, range of them, or list of both", FieldJSON: "any value", FieldScalar: "text, number, or true or false",
		FieldJSONMap: "mapping with keys of your own", FieldObject: "mapping", FieldNames: "mapping of names",
	}[f.Type]
	if f.Short != "" && f.Type == FieldObject {
		name += ", or its " + f.Short + " alone"
	}
	if f.List {
		name = "list of: " + name
	}
	return name
}

// PlanReference returns the reference of the plan language in Markdown.
func PlanReference() string {
	t := NewTable()
	var b strings.Builder
	b.WriteString(planIntro)
	t.section(&b, "The plan", "")
	t.walk(&b, "")
	b.WriteString(planOutro)
	return b.String()
}

// walk writes a section for every mapping below a path.
func (t Table) walk(b *strings.Builder, path string) {
	for _, f := range t[path] {
		child := f.childPath()
		if f.Path == "defaults" || len(t[child]) == 0 {
			continue
		}
		t.section(b, "`"+shownPath(child)+"`", child)
		t.walk(b, child)
	}
}

func (t Table) section(b *strings.Builder, title, path string) {
	fmt.Fprintf(b, "\n## %s\n\n| Key | Takes | Default | Limits | What it is |\n|---|---|---|---|---|\n", title)
	for _, f := range t[path] {
		name := "`" + f.Key() + "`"
		if f.Required {
			name += " (required)"
		}
		notes := f.Doc
		if f.Only != "" {
			notes += " Only for `" + string(f.Only) + "`."
		}
		if f.Shared {
			notes += " Also under `defaults`."
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s Example: `%s: %s` |\n", name, cell(f.typeName()), cell(f.Default), cell(f.Limits()), cell(notes), f.Key(), cell(f.Example))
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

const planIntro = `# The plan

This page is made from the table of fields that ` + "`runner validate`" + ` reads; a test keeps the two equal.
A plan is one YAML document. Unknown keys, keys that stand twice and merge keys (` + "`<<`" + `) are errors;
anchors and aliases are fine. ` + "`jobs[]`" + ` stands for each element of the list ` + "`jobs`" + `.
`

const planOutro = `
## Placeholders

| Written | Stands for |
|---|---|
| ` + "`${var.NAME}`" + ` | The value of a variable, in any text of the plan but keys. Alone, it brings its type along: ` + "`concurrency: ${var.n}`" + `. In a query it becomes one literal: a text is quoted, inside quotes it is escaped. |
| ` + "`${device.id}`, `${device.moduleId}`" + ` | The ids of the device or module, in ` + "`payload`, `desired`, `tags` and `confirm.reported`" + `. |
| ` + "`${device.tags.a.b}`, `${device.desired.a}`, `${device.reported.a}`" + ` | A value of the device's twin, in the same places. Alone, it brings its type along; inside a text it must be a text, a number or a boolean. |
| ` + "`${device.tags.site\\|\"unknown\"}`" + ` | The same, with a JSON value for devices that have none; a text may stand in single quotes. |
| ` + "`$${`" + ` | The characters ` + "`${`" + `. |

A device that lacks a value without a fallback ends as ` + "`failed`" + ` before anything is sent to it.
`

package spec

import (
	"encoding/json"
	"fmt"
	"strings"

	"iothub-runner/internal/twinquery"
)

// Template is a JSON value with placeholders for values of a device. It is
// not written to after Parse and is safe for concurrent use.
type Template struct {
	parts []part
	reads TwinSections
	rows  []Piece // those that are values of a row
}

// TwinSections says which sections of a twin are meant.
type TwinSections struct {
	Tags, Desired, Reported bool
}

// Device is what a template may take values from. Sections may be nil when
// [Template.Reads] does not ask for them.
type Device struct {
	ID       string
	ModuleID string
	Tags     json.RawMessage
	Desired  json.RawMessage
	Reported json.RawMessage
	Row      json.RawMessage // of the plan's devicesFile; nil if it has none
}

// part is a stretch of JSON text, or a placeholder in it.
type part struct {
	json   []byte // nil for a placeholder
	of     Piece
	inText bool // the placeholder stands inside a JSON string
}

// MissingError says that a device lacks a value that a template needs.
type MissingError struct {
	Path string // as in "tags.site"
	What string // what is wrong with it
	Row  bool   // it is one of the row
}

func (e *MissingError) Error() string {
	if e.Row {
		return fmt.Sprintf("the row's %s %s", e.Path, e.What)
	}
	return fmt.Sprintf("the device's %s %s", e.Path, e.What)
}

// Reads tells which sections of the twin the template needs; a device's id is
// always known.
func (t *Template) Reads() TwinSections { return t.reads }

// RowValues returns the placeholders that stand for values of a row.
func (t *Template) RowValues() []Piece {
	if t == nil {
		return nil
	}
	return t.rows
}

// Lacks returns why a placeholder cannot be filled in for a device; nil if it can.
func (d Device) Lacks(p Piece) error {
	_, err := d.value(p)
	return err
}

// Execute fills the template in for a device. The error is a [*MissingError]:
// the device has no such value and the plan gives no fallback, or the value
// cannot stand inside a text. The result is compact and the caller's own.
func (t *Template) Execute(d Device) (json.RawMessage, error) {
	var out []byte
	for _, p := range t.parts {
		if p.json != nil {
			out = append(out, p.json...)
			continue
		}
		value, err := d.value(p.of)
		if err != nil {
			return nil, err
		}
		if !p.inText {
			out = append(out, value...)
			continue
		}
		text, err := p.text(value)
		if err != nil {
			return nil, err
		}
		out = append(out, text...)
	}
	return compact(out), nil
}

// String returns the template as JSON with its placeholders in place.
func (t *Template) String() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.json != nil {
			b.Write(p.json)
			continue
		}
		b.WriteString(p.of.String())
	}
	return b.String()
}

// value returns the JSON of what a placeholder stands for.
func (d Device) value(p Piece) ([]byte, error) {
	if p.Root == "row" {
		return d.rowValue(p)
	}
	var found []byte
	switch p.Path[0] {
	case "id":
		found = AppendString(nil, d.ID)
	case "moduleId":
		if d.ModuleID != "" {
			found = AppendString(nil, d.ModuleID)
		}
	case "tags":
		found = lookup(d.Tags, p.Path[1:])
	case "desired":
		found = lookup(d.Desired, p.Path[1:])
	case "reported":
		found = lookup(d.Reported, p.Path[1:])
	}
	switch {
	case found != nil:
		return found, nil
	case p.Fallback != nil:
		return p.Fallback, nil
	}
	return nil, &MissingError{Path: strings.Join(p.Path, "."), What: "is missing"}
}

// rowValue returns the JSON of a value of the row. One that is empty counts as
// missing where it is to be a number or a boolean.
func (d Device) rowValue(p Piece) ([]byte, error) {
	found := lookup(d.Row, p.Path)
	what := "is missing"
	if found != nil && p.Convert != "" {
		if converted := convert(found, p.Convert); converted != nil {
			return converted, nil
		}
		if string(found) != `""` {
			return nil, &MissingError{Path: strings.Join(p.Path, "."), What: fmt.Sprintf("is %s, which is no %s", Clip(string(found)), p.Convert), Row: true}
		}
		found, what = nil, "is empty"
	}
	switch {
	case found != nil:
		return found, nil
	case p.Fallback != nil:
		return p.Fallback, nil
	}
	return nil, &MissingError{Path: strings.Join(p.Path, "."), What: what, Row: true}
}

// convert reads a text as a number or a boolean; nil if it is none. What is one
// already stays so.
func convert(value []byte, to string) []byte {
	text := strings.TrimSpace(strings.Trim(string(value), `"`))
	switch {
	case to == convertBoolean && (strings.EqualFold(text, "true") || strings.EqualFold(text, "false")):
		return []byte(strings.ToLower(text))
	case to == convertNumber && text != "" && strings.Trim(text, "+-.0123456789eE") == "" && json.Valid([]byte(text)):
		return []byte(text)
	}
	return nil
}

func lookup(section json.RawMessage, path []string) []byte {
	if len(section) == 0 {
		return nil
	}
	return twinquery.LookupJSON(string(section), path).AppendJSON(nil)
}

// text returns a value as it stands inside a JSON string.
func (p part) text(value []byte) ([]byte, error) {
	switch value[0] {
	case '"':
		return value[1 : len(value)-1], nil
	case '{', '[', 'n':
		return nil, &MissingError{Path: strings.Join(p.of.Path, "."), What: fmt.Sprintf("is %s, which cannot stand inside a text", Clip(string(value))), Row: p.of.Root == "row"}
	}
	return value, nil
}

// compact removes the white space that a value of the device may have brought.
func compact(value []byte) json.RawMessage {
	out := value[:0]
	inText := false
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case inText && c == '\\' && i+1 < len(value):
			out = append(out, c)
			i++
			c = value[i]
		case c == '"':
			inText = !inText
		case !inText && (c == ' ' || c == '\n' || c == '\t' || c == '\r'):
			continue
		}
		out = append(out, c)
	}
	return out
}

// TemplateBuilder collects what a converter writes around placeholders.
type TemplateBuilder struct {
	parts []part
	reads TwinSections
	rows  []Piece
}

// Add adds a piece.
func (b *TemplateBuilder) Add(json []byte, of Piece, inText bool) {
	if len(json) > 0 {
		b.parts = append(b.parts, part{json: append([]byte(nil), json...)})
	}
	b.parts = append(b.parts, part{of: of, inText: inText})
	if of.Root == "row" {
		b.rows = append(b.rows, of)
		return
	}
	switch of.Path[0] {
	case "tags":
		b.reads.Tags = true
	case "desired":
		b.reads.Desired = true
	case "reported":
		b.reads.Reported = true
	}
}

// Template returns what was collected, with the JSON after the last
// placeholder; nil if there was no placeholder.
func (b *TemplateBuilder) Template(rest []byte) *Template {
	if len(b.parts) == 0 {
		return nil
	}
	parts := b.parts
	if len(rest) > 0 {
		parts = append(parts, part{json: rest})
	}
	return &Template{parts: parts, reads: b.reads, rows: b.rows}
}

package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Piece is a part of a text: literal characters, or a placeholder ${...}.
type Piece struct {
	Offset int // in the text
	End    int
	Text   string // of a literal, escapes resolved

	Root     string   // var, device or row; empty for a literal
	Path     []string // below the root
	Convert  string   // number or boolean, of a text in a row; empty to take it as it is
	Fallback json.RawMessage
}

// Literal tells whether a piece is text, and not a placeholder.
func (p Piece) Literal() bool { return p.Root == "" }

// OfDevice tells whether a piece has another value for each device.
func (p Piece) OfDevice() bool { return p.Root == "device" || p.Root == "row" }

// RecordedETag is the value of a row that guard: recorded looks at.
func RecordedETag() Piece { return Piece{Root: "row", Path: []string{"etag"}} }

// String returns the placeholder as plans write it.
func (p Piece) String() string {
	name := p.Root + "." + strings.Join(p.Path, ".")
	if p.Convert != "" {
		name += "|" + p.Convert
	}
	if p.Fallback != nil {
		name += "|" + string(p.Fallback)
	}
	return "${" + name + "}"
}

// PlaceholderError is a fault in a placeholder, with its place in the text.
type PlaceholderError struct {
	Offset, End   int
	Message, Hint string
}

func (e *PlaceholderError) Error() string { return e.Message }

// HasPlaceholder tells whether a text needs parsePlaceholders at all.
func HasPlaceholder(s string) bool { return strings.Contains(s, "${") }

// ParsePlaceholders cuts a text at its placeholders. "$${" stands for a "${"
// that is none.
func ParsePlaceholders(s string) ([]Piece, *PlaceholderError) {
	var pieces []Piece
	var literal strings.Builder
	start := 0
	flush := func(end int) {
		if literal.Len() > 0 {
			pieces = append(pieces, Piece{Offset: start, End: end, Text: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "$${"):
			literal.WriteString("${")
			i += 3
		case strings.HasPrefix(s[i:], "${"):
			flush(i)
			p, err := parsePlaceholder(s, i)
			if err != nil {
				return nil, err
			}
			pieces = append(pieces, p)
			i, start = p.End, p.End
		default:
			literal.WriteByte(s[i])
			i++
		}
	}
	flush(len(s))
	return pieces, nil
}

// The conversions of a text in a row.
const (
	convertNumber  = "number"
	convertBoolean = "boolean"
)

const placeholderHint = `write ${var.NAME}, ${device.id}, ${device.moduleId}, or ${device.tags.KEY}, ${device.desired.KEY} or ${device.reported.KEY}, with |"text" for a fallback, or ${row.NAME} of a devicesFile with values; $${ stands for the characters ${`

// parsePlaceholder reads the placeholder that starts at offset.
func parsePlaceholder(s string, offset int) (Piece, *PlaceholderError) {
	end := placeholderEnd(s, offset)
	if end < 0 {
		return Piece{}, &PlaceholderError{offset, len(s), "the placeholder that starts here is not closed", "close it with }, or write $${ for the characters ${"}
	}
	p := Piece{Offset: offset, End: end}
	fault := func(message, hint string) (Piece, *PlaceholderError) {
		return Piece{}, &PlaceholderError{offset, end, message, hint}
	}
	name, fallback, hasFallback := strings.Cut(s[offset+2:end-1], "|")
	steps := strings.Split(strings.TrimSpace(name), ".")
	p.Root, p.Path = steps[0], steps[1:]
	if p.Root == "row" && hasFallback {
		p.Convert, fallback, hasFallback = conversion(fallback)
	}
	switch {
	case !slices.Contains([]string{"var", "device", "row"}, p.Root):
		return fault(fmt.Sprintf("unknown placeholder %q", Clip(s[offset:end])), placeholderHint)
	case slices.ContainsFunc(p.Path, func(k string) bool { return k == "" || strings.ContainsAny(k, " \t\n\"'{}") }):
		return fault(fmt.Sprintf("%q is not a path", Clip(strings.TrimSpace(name))), placeholderHint)
	case p.Root == "var" && (len(p.Path) != 1 || hasFallback):
		return fault("a variable is written ${var.NAME}", "a variable has its default under vars")
	}
	if message, hint := p.wrongPath(); message != "" {
		return fault(message, hint)
	}
	if hasFallback {
		if p.Fallback = fallbackValue(fallback); p.Fallback == nil {
			return fault(fmt.Sprintf("the fallback %q is not a JSON value", Clip(strings.TrimSpace(fallback))), `write |"text", |0, |true or |null`)
		}
	}
	return p, nil
}

// wrongPath says why a placeholder names no value; empty if it does.
func (p Piece) wrongPath() (message, hint string) {
	switch {
	case p.Root == "row" && len(p.Path) == 0:
		return "a value of a row is written ${row.NAME}", "NAME is a column of the devicesFile, or a key in its lines"
	case p.Root == "device" && !devicePath(p.Path):
		name := strings.Join(append([]string{p.Root}, p.Path...), ".")
		return fmt.Sprintf("%q is no value of a device", Clip(name)), placeholderHint
	}
	return "", ""
}

// conversion takes a conversion off what stands after a value of a row. What is
// left is a fallback, if there is one.
func conversion(text string) (convert, fallback string, hasFallback bool) {
	convert, fallback, hasFallback = strings.Cut(text, "|")
	switch convert = strings.TrimSpace(convert); convert {
	case convertNumber, convertBoolean:
		return convert, fallback, hasFallback
	}
	return "", text, true
}

// placeholderEnd returns the offset after the closing brace; braces in the
// quotes of a fallback do not count.
func placeholderEnd(s string, offset int) int {
	quote := byte(0)
	for i := offset + 2; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
		case c == '"' || c == '\'':
			quote = c
		case c == '}':
			return i + 1
		}
	}
	return -1
}

func devicePath(path []string) bool {
	switch {
	case len(path) == 1:
		return path[0] == "id" || path[0] == "moduleId"
	case len(path) > 1:
		return path[0] == "tags" || path[0] == "desired" || path[0] == "reported"
	}
	return false
}

// fallbackValue reads a fallback as JSON; a text may stand in single quotes,
// which sit better in YAML.
func fallbackValue(s string) json.RawMessage {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '\'' && s[len(s)-1] == '\'' {
		return AppendString(nil, strings.ReplaceAll(s[1:len(s)-1], "''", "'"))
	}
	if !json.Valid([]byte(s)) {
		return nil
	}
	return json.RawMessage(s)
}

// AppendString appends s as a JSON string. Nothing is escaped for HTML: sizes
// count, and the reader is a device.
func AppendString(out []byte, s string) []byte {
	return append(AppendText(append(out, '"'), s), '"')
}

// AppendText appends s as it stands between the quotes of a JSON string.
func AppendText(out []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c == '\n':
			out = append(out, '\\', 'n')
		case c == '\t':
			out = append(out, '\\', 't')
		case c < 0x20 || c == 0x7F:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			out = append(out, c)
		}
	}
	return out
}

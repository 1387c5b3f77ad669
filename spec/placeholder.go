package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// piece is a part of a text: literal characters, or a placeholder ${...}.
type piece struct {
	offset int // in the text
	end    int
	text   string // of a literal, escapes resolved

	root     string   // var or device; empty for a literal
	path     []string // below the root
	fallback json.RawMessage
}

func (p piece) literal() bool { return p.root == "" }

// String returns the placeholder as plans write it.
func (p piece) String() string {
	name := p.root + "." + strings.Join(p.path, ".")
	if p.fallback != nil {
		name += "|" + string(p.fallback)
	}
	return "${" + name + "}"
}

// placeholderError is a fault in a placeholder, with its place in the text.
type placeholderError struct {
	offset, end   int
	message, hint string
}

func (e *placeholderError) Error() string { return e.message }

// hasPlaceholder tells whether a text needs parsePlaceholders at all.
func hasPlaceholder(s string) bool { return strings.Contains(s, "${") }

// parsePlaceholders cuts a text at its placeholders. "$${" stands for a "${"
// that is none.
func parsePlaceholders(s string) ([]piece, *placeholderError) {
	var pieces []piece
	var literal strings.Builder
	start := 0
	flush := func(end int) {
		if literal.Len() > 0 {
			pieces = append(pieces, piece{offset: start, end: end, text: literal.String()})
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
			i, start = p.end, p.end
		default:
			literal.WriteByte(s[i])
			i++
		}
	}
	flush(len(s))
	return pieces, nil
}

const placeholderHint = `write ${var.NAME}, ${device.id}, ${device.moduleId}, or ${device.tags.KEY}, ${device.desired.KEY} or ${device.reported.KEY}, with |"text" for a fallback; $${ stands for the characters ${`

// parsePlaceholder reads the placeholder that starts at offset.
func parsePlaceholder(s string, offset int) (piece, *placeholderError) {
	end := placeholderEnd(s, offset)
	if end < 0 {
		return piece{}, &placeholderError{offset, len(s), "the placeholder that starts here is not closed", "close it with }, or write $${ for the characters ${"}
	}
	p := piece{offset: offset, end: end}
	fault := func(message, hint string) (piece, *placeholderError) {
		return piece{}, &placeholderError{offset, end, message, hint}
	}
	name, fallback, hasFallback := strings.Cut(s[offset+2:end-1], "|")
	steps := strings.Split(strings.TrimSpace(name), ".")
	p.root, p.path = steps[0], steps[1:]
	switch {
	case !slices.Contains([]string{"var", "device"}, p.root):
		return fault(fmt.Sprintf("unknown placeholder %q", clip(s[offset:end])), placeholderHint)
	case slices.ContainsFunc(p.path, func(k string) bool { return k == "" || strings.ContainsAny(k, " \t\n\"'{}") }):
		return fault(fmt.Sprintf("%q is not a path", clip(strings.TrimSpace(name))), placeholderHint)
	case p.root == "var" && (len(p.path) != 1 || hasFallback):
		return fault("a variable is written ${var.NAME}", "a variable has its default under vars")
	case p.root == "device" && !devicePath(p.path):
		return fault(fmt.Sprintf("%q is no value of a device", clip(strings.TrimSpace(name))), placeholderHint)
	case hasFallback:
		if p.fallback = fallbackValue(fallback); p.fallback == nil {
			return fault(fmt.Sprintf("the fallback %q is not a JSON value", clip(strings.TrimSpace(fallback))), `write |"text", |0, |true or |null`)
		}
	}
	return p, nil
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
		return appendString(nil, strings.ReplaceAll(s[1:len(s)-1], "''", "'"))
	}
	if !json.Valid([]byte(s)) {
		return nil
	}
	return json.RawMessage(s)
}

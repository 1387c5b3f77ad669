package planfile

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// maxPayload is the largest method payload that the hub takes.
const maxPayload = 128 << 10

// converter turns a YAML value into compact JSON: keys in the order of the
// file, numbers digit by digit as they are written.
type converter struct {
	p     *parser
	out   []byte
	built spec.TemplateBuilder
	// twin watches the value as part of a twin; nil for a payload.
	twin *twinWalk
}

func (p *parser) payload(n *yaml.Node) *jsonValue {
	c := converter{p: p}
	c.value(n)
	v := p.resolveJSON(n)
	if v.Kind == yaml.ScalarNode && v.Tag == "!!str" && holdsJSON(v.Value) {
		p.at(n, spec.RuleJSONInString, "the payload is a text that holds JSON; the device gets a string, not the object",
			"write the value itself, as in payload: {lockTime: 10m}")
	}
	p.payloadSize(n, len(c.out))
	return p.jsonValue(&c)
}

// jsonValue returns what a converter wrote.
func (p *parser) jsonValue(c *converter) *jsonValue {
	return &jsonValue{json: c.out, template: c.built.Template(c.out)}
}

// resolveJSON fills in the variables of a text unless it has values of a
// device, which only a template can hold.
func (p *parser) resolveJSON(n *yaml.Node) *yaml.Node {
	v := deref(n)
	if v.Kind != yaml.ScalarNode || v.Tag != "!!str" || !spec.HasPlaceholder(v.Value) {
		return v
	}
	pieces, err := spec.ParsePlaceholders(v.Value)
	if err == nil && slices.ContainsFunc(pieces, spec.Piece.OfDevice) {
		return v
	}
	return p.resolve(n)
}

func (p *parser) payloadSize(n *yaml.Node, size int) {
	if size > maxPayload {
		p.at(n, spec.RulePayloadSize, fmt.Sprintf("the payload has %d bytes as JSON", size), fmt.Sprintf("the hub takes %d bytes (128 KB)", maxPayload))
	}
}

// holdsJSON tells whether a text is an object or array of JSON.
func holdsJSON(s string) bool {
	s = strings.TrimSpace(s)
	return s != "" && (s[0] == '{' || s[0] == '[') && json.Valid([]byte(s))
}

func (c *converter) value(n *yaml.Node) {
	v := deref(n)
	switch v.Kind { //nolint:exhaustive // documents do not nest, aliases are followed
	case yaml.MappingNode:
		c.mapping(v)
	case yaml.SequenceNode:
		c.sequence(v)
	default:
		c.scalar(n, c.p.resolveJSON(n))
	}
}

func (c *converter) mapping(m *yaml.Node) {
	seen := make(map[string]*yaml.Node, len(m.Content)/2)
	c.out = append(c.out, '{')
	if c.twin != nil {
		c.twin.enter(c.p, m)
		defer c.twin.leave()
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if !c.p.plainKey(key) {
			continue
		}
		if first, ok := seen[key.Value]; ok {
			c.p.duplicateKey(key, first)
			continue
		}
		seen[key.Value] = key
		c.p.disputedKey(key)
		c.p.written(key, value)
		if len(seen) > 1 {
			c.out = append(c.out, ',')
		}
		c.out = append(spec.AppendString(c.out, c.key(key)), ':')
		c.value(value)
	}
	c.out = append(c.out, '}')
}

// written refuses an entry without a value. YAML reads null there, which deletes
// a key of a twin: a slip like {floor:3}, whose key is "floor:3", would pass.
func (p *parser) written(key, value *yaml.Node) {
	if value.Kind != yaml.ScalarNode || value.Tag != "!!null" || value.Value != "" {
		return
	}
	hint := "write null to delete the key or to send null"
	if strings.Contains(key.Value, ":") {
		hint = "is a space missing after the colon? " + hint
	}
	p.at(key, spec.RuleValue, fmt.Sprintf("key %q has no value", spec.Clip(key.Value)), hint)
}

// key returns a key as it is sent. Keys are not filled in, so that the plan
// shows which ones are set; one that asks for it would be sent as it stands.
func (c *converter) key(n *yaml.Node) string {
	text := n.Value
	if spec.HasPlaceholder(text) {
		pieces, err := spec.ParsePlaceholders(text)
		if err != nil || len(pieces) != 1 || !pieces[0].Literal() {
			c.p.at(n, spec.RulePlaceholder, fmt.Sprintf("key %q holds a placeholder; only values are filled in", spec.Clip(text)), "write the key itself, or $${ for the characters ${")
			return text
		}
		text = pieces[0].Text
	}
	if c.twin != nil {
		c.twin.key(c.p, n)
	}
	return text
}

func (c *converter) sequence(s *yaml.Node) {
	c.out = append(c.out, '[')
	if c.twin != nil {
		c.twin.arrays++
		defer func() { c.twin.arrays-- }()
	}
	for i, e := range s.Content {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.value(e)
	}
	c.out = append(c.out, ']')
}

// scalar appends v, reporting faults where n, which may be an alias, stands.
func (c *converter) scalar(n, v *yaml.Node) {
	if c.twin != nil {
		c.twin.scalar(c.p, n, v)
	}
	switch v.Tag {
	case "!!null":
		c.out = append(c.out, "null"...)
	case "!!bool":
		c.out = append(c.out, strings.ToLower(v.Value)...)
	case "!!int", "!!float":
		number, problem := jsonNumber(v.Value)
		switch {
		case problem != "":
			c.p.at(n, spec.RuleNumber, fmt.Sprintf("%s %s", spec.Clip(v.Value), problem), quoteHint(v.Value))
			number = "0"
		case v.Style == 0 && !c.p.agreed(n, v):
			number = "0"
		}
		c.out = append(c.out, number...)
	case "!!str":
		c.text(n, v)
	case "": // a placeholder without a value; the finding is made
		c.out = append(c.out, "null"...)
	default: // a date has no JSON form of its own; what was written is what is sent
		c.out = spec.AppendString(c.out, v.Value)
	}
}

func (c *converter) text(n, v *yaml.Node) {
	if v == deref(n) && spec.HasPlaceholder(v.Value) {
		c.placeholders(n)
		return
	}
	if v.Style == 0 {
		c.p.agreed(n, v)
	}
	if v.Style == 0 && oldBoolean(v.Value) {
		c.p.at(n, spec.RuleAmbiguous, fmt.Sprintf("%s is sent as the text %q", v.Value, v.Value),
			fmt.Sprintf("write %q in quotes if you mean the text, true or false if you mean that", v.Value))
	}
	c.out = spec.AppendString(c.out, v.Value)
}

// placeholders writes a text that has values of a device in it.
func (c *converter) placeholders(n *yaml.Node) {
	pieces, ok := c.p.pieces(deref(n))
	if !ok {
		return
	}
	if len(pieces) == 1 { // alone, it brings its own type
		if c.twin != nil && c.twin.arrays > 0 && string(pieces[0].Fallback) == "null" {
			c.twin.null(c.p, n)
		}
		c.built.Add(c.out, pieces[0], false)
		c.out = c.out[:0]
		return
	}
	c.out = append(c.out, '"')
	for _, pc := range pieces {
		switch pc.Root {
		case "device", "row":
			if string(pc.Fallback) == "null" {
				c.p.inText(deref(n), pc.Offset, pc.End, "null has no place inside a text", `write a text as the fallback, as in |"", or let the placeholder stand alone`)
			}
			c.built.Add(c.out, pc, true)
			c.out = c.out[:0]
		case "var":
			if value, ok := c.p.lookupVar(deref(n), pc); ok {
				c.out = spec.AppendText(c.out, value.Value)
			}
		default:
			c.out = spec.AppendText(c.out, pc.Text)
		}
	}
	c.out = append(c.out, '"')
}

// oldBoolean tells whether YAML 1.1 read a plain text as true or false.
func oldBoolean(s string) bool {
	switch strings.ToLower(s) {
	case "yes", "no", "on", "off":
		return true
	}
	return false
}

// The forms that are a number for some readers of YAML and a text for others:
// 1.1 wants a dot and a sign in front of an exponent, and counts 12:30:00 in
// sixties; 1.2 does neither. Which of them a value is may hang on its size.
var (
	exponentShape = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$|^[-+]?\.[0-9][0-9_]*[eE][-+]?[0-9]+$`)
	agreedShape   = regexp.MustCompile(`^[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9_]+)[eE][-+][0-9]+$`)
	sixtiesShape  = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)
	octalShape    = regexp.MustCompile(`^[-+]?(0o?[0-9_]+|0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*_[0-9_]*)$`)
)

// disputedForm says why readers of YAML disagree on a plain value; empty if they
// do not.
func disputedForm(s string) string {
	switch {
	case s == "" || !strings.Contains("+-.0123456789", s[:1]): // most texts, and long ones cost regexp much
		return ""
	case exponentShape.MatchString(s) && !agreedShape.MatchString(s):
		return "is a number for some YAML readers and a text for others"
	case sixtiesShape.MatchString(s):
		return "is a text for some YAML readers and a number in sixties for others"
	case octalShape.MatchString(s) && len(s) > 1:
		return "is one number for some YAML readers and another, or a text, for others"
	}
	return ""
}

// plainExponent tells whether a number has an exponent without the dot or the sign
// that YAML 1.1 wants. Each reader of 1.2 takes it for the number that it looks
// like, so it is sent as one; with a zero in front it looks like nothing.
func plainExponent(s string) bool {
	return exponentShape.MatchString(s) && !agreedShape.MatchString(s) && !strings.HasPrefix(strings.TrimLeft(s, "+-"), "0")
}

// agreed refuses a plain value at n that readers of YAML disagree on, and warns of
// a number that may be meant as a text, such as a hash.
func (p *parser) agreed(n, v *yaml.Node) bool {
	if v.Tag == "!!float" && plainExponent(v.Value) {
		if _, problem := jsonNumber(v.Value); problem == "" {
			p.at(n, spec.RuleAmbiguous, spec.Clip(v.Value)+" is sent as a number, and older readers of YAML take it for a text",
				fmt.Sprintf("put it in quotes if you mean the text: %q; write the number with a dot and a sign: 1.0e+20", spec.Clip(v.Value)))
			return true
		}
	}
	problem := disputedForm(v.Value)
	if problem != "" {
		p.at(n, spec.RuleNumber, fmt.Sprintf("%s %s", spec.Clip(v.Value), problem), quoteHint(v.Value))
	}
	return problem == ""
}

// quoteHint says how to write a value so that there is no doubt.
func quoteHint(s string) string {
	return fmt.Sprintf("write the number in decimal, or put it in quotes: %q", spec.Clip(s))
}

// disputedKey judges a plain key as a value is: it is sent as a text, whatever
// other readers make of it.
func (p *parser) disputedKey(key *yaml.Node) {
	k := deref(key)
	if k.Style != 0 {
		return
	}
	problem := disputedForm(k.Value)
	switch {
	case problem == "" && k.Tag == "!!float":
		_, problem = jsonNumber(k.Value)
	case problem == "" && (k.Tag == "!!bool" || oldBoolean(k.Value)):
		p.at(key, spec.RuleAmbiguous, fmt.Sprintf("key %s is sent as the text %q", spec.Clip(k.Value), spec.Clip(k.Value)), fmt.Sprintf("put it in quotes if you mean the text: %q", spec.Clip(k.Value)))
	}
	if problem != "" {
		p.at(key, spec.RuleNumber, fmt.Sprintf("key %s %s", spec.Clip(k.Value), problem), fmt.Sprintf("put it in quotes: %q", spec.Clip(k.Value)))
	}
}

// numberShape is a number with or without a sign, a fraction and an exponent.
var numberShape = regexp.MustCompile(`^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$`)

// jsonNumber returns a YAML number in JSON's notation, without passing through
// a binary number that could round it.
func jsonNumber(s string) (number, problem string) {
	digits := strings.TrimLeft(s, "+-")
	sign := ""
	if s[0] == '-' {
		sign = "-"
	}
	whole, fraction, exponent := splitNumber(digits)
	switch {
	case strings.ContainsAny(digits, "nN_xob"): // .inf, .nan, 1_000, 0x1f, 0o7, 0b1
		return "", "is not a number that JSON can hold as written"
	case !numberShape.MatchString(s):
		return "", "is not a number"
	case len(whole) > 1 && whole[0] == '0':
		return "", "starts with a zero, which some readers take for octal"
	}
	if whole == "" {
		whole = "0"
	}
	number = sign + whole
	if fraction != "" {
		number += "." + fraction
	}
	if exponent != "" {
		number += "e" + exponent
	}
	if f, err := strconv.ParseFloat(number, 64); err != nil || math.IsInf(f, 0) {
		return "", "is too large for a number"
	}
	return number, ""
}

func splitNumber(s string) (whole, fraction, exponent string) {
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		s, exponent = s[:i], s[i+1:]
	}
	whole, fraction, _ = strings.Cut(s, ".")
	return whole, fraction, exponent
}

package planfile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"iothub-runner/internal/twinquery"
	"iothub-runner/spec"
)

// variable is a variable of the plan with the value it has in this run.
type variable struct {
	name    string
	section *varSection
	key     *yaml.Node
	value   *yaml.Node // a scalar; nil if there is none
	used    bool
	secret  bool // what was handed in looks like one
}

// readVars reads the declarations and settles each variable's value, before
// any text that may use one is read.
func (p *parser) readVars(n *yaml.Node) map[string]*varSection {
	m := deref(n)
	if m.Kind != yaml.MappingNode {
		p.wrongType("vars", n, "a mapping of names")
		return nil
	}
	sections := map[string]*varSection{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if !p.plainKey(key) {
			continue
		}
		if first, ok := p.vars[key.Value]; ok {
			p.duplicateKey(key, first.key)
			continue
		}
		if !validVar(key.Value) {
			p.at(key, spec.RuleValue, fmt.Sprintf("a variable cannot be called %q", spec.Clip(key.Value)), "use letters, digits, _ and -, starting with a letter")
			continue
		}
		v := &variable{name: key.Value, key: key, section: p.variable(key.Value, value)}
		p.vars[key.Value] = v
		if v.section != nil {
			sections[key.Value] = v.section
			p.settle(v)
		}
	}
	return sections
}

func validVar(s string) bool {
	for i := range len(s) {
		if !spec.Alphanumeric(s[i]) && s[i] != '_' && s[i] != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64 && (s[0] > '9')
}

// variable reads one declaration; a bare value is its default.
func (p *parser) variable(name string, n *yaml.Node) *varSection {
	place := "vars[" + name + "]"
	if v := deref(n); v.Kind == yaml.ScalarNode {
		return &varSection{object: object{place: place, node: n}, Default: n}
	}
	o, ok := p.object(place, n)
	if !ok {
		return nil
	}
	return &varSection{object: o, Type: p.text(o, "type"), Default: o.value("default"), Description: p.text(o, "description"), AllowEmpty: p.boolean(o, "allowEmpty"), Sensitive: p.boolean(o, "sensitive")}
}

// sensitive tells whether the value is a secret: the plan says so, or it looks
// like one.
func (v *variable) sensitive() bool {
	return v.secret || v.section != nil && v.section.Sensitive != nil && *v.section.Sensitive
}

// mayBeEmpty tells whether the plan lets the variable be an empty text in a query.
func (v *variable) mayBeEmpty() bool {
	return v.section != nil && v.section.AllowEmpty != nil && *v.section.AllowEmpty
}

// settle finds the value of a variable: the one handed in, or its default.
func (p *parser) settle(v *variable) {
	if v.sensitive() && v.section.has("default") {
		p.src.secrets.hide(deref(v.section.Default).Value)
		p.at(v.section.Default, spec.RuleVarValue, fmt.Sprintf("variable %q is sensitive and has a default, which everybody can read who reads the plan", v.name), "leave the default out and set "+varEnv(v))
		return
	}
	typ := p.varType(v)
	if given, ok := p.handedIn(v); ok {
		p.settleGiven(v, typ, given)
		return
	}
	p.settleDefault(v, typ)
}

// varEnv is the environment variable that gives a variable its value.
func varEnv(v *variable) string { return "the environment variable RUNNER_VAR_" + v.name }

func (p *parser) settleGiven(v *variable, typ, given string) {
	v.secret = len(p.src.secrets.scanner.Find(given)) > 0
	v.value = typedScalar(typ, given, v.key)
	shown := strconv.Quote(spec.Clip(given))
	if v.sensitive() {
		shown = "(not shown)"
		p.src.secrets.hide(given)
	}
	if v.value == nil {
		p.at(v.key, spec.RuleVarValue, fmt.Sprintf("variable %q is given the value %s, which is no %s", v.name, shown, typ), varHint(typ))
	}
}

func (p *parser) settleDefault(v *variable, typ string) {
	def := v.section.Default
	switch {
	case v.sensitive():
		p.at(v.key, spec.RuleVarValue, fmt.Sprintf("variable %q has no value", v.name), "set "+varEnv(v))
	case def == nil && !v.section.has("default"):
		p.at(v.key, spec.RuleVarValue, fmt.Sprintf("variable %q has no value", v.name), fmt.Sprintf("give it a default, or pass --var %s=...", v.name))
	case deref(def).Kind != yaml.ScalarNode || deref(def).Tag == "!!null":
		p.at(def, spec.RuleType, fmt.Sprintf("the default of a variable must be a text, a number or true or false, not %s", describe(def)), "")
	default:
		d := deref(def)
		if d.Style == 0 && !p.agreed(def, d) {
			return
		}
		if v.value = typedScalar(typ, d.Value, d); v.value == nil || typ != spec.VarString && d.Tag == "!!str" {
			v.value = nil
			p.at(def, spec.RuleVarValue, fmt.Sprintf("the default of variable %q is %s, which is no %s", v.name, describe(def), typ), varHint(typ))
		}
	}
}

// handedIn returns the value that was handed in for a variable: by name, or else by
// the way that the options look others up.
func (p *parser) handedIn(v *variable) (string, bool) {
	if given, ok := p.opts.Vars[v.name]; ok {
		return given, true
	}
	if p.opts.Lookup == nil {
		return "", false
	}
	return p.opts.Lookup(v.name, v.sensitive())
}

// varType returns the declared type, or the one that the default shows.
func (p *parser) varType(v *variable) string {
	if t := v.section.Type; t != nil && slices.Contains([]string{spec.VarString, spec.VarInteger, spec.VarNumber, spec.VarBoolean}, *t) {
		return *t
	}
	if v.section.has("type") || v.section.Default == nil {
		return spec.VarString
	}
	switch d := deref(v.section.Default); d.Tag {
	case "!!int":
		return spec.VarInteger
	case "!!float":
		return spec.VarNumber
	case "!!bool":
		return spec.VarBoolean
	}
	return spec.VarString
}

func varHint(typ string) string {
	switch typ {
	case spec.VarInteger:
		return "write a whole number in decimal, such as 43"
	case spec.VarNumber:
		return "write a number in decimal, such as 4.5"
	case spec.VarBoolean:
		return "write true or false"
	}
	return ""
}

// typedScalar returns a scalar of a variable's type at the place of another
// node, or nil if the text is not of the type.
func typedScalar(typ, text string, at *yaml.Node) *yaml.Node {
	tag := "!!str"
	switch typ {
	case spec.VarInteger:
		tag = "!!int"
		if !decimal(text) {
			return nil
		}
	case spec.VarNumber:
		tag = "!!float"
		if strings.Trim(text, "+-.0123456789eE") != "" || text == "" {
			return nil
		}
		if _, problem := jsonNumber(text); problem != "" {
			return nil
		}
		if decimal(text) {
			tag = "!!int"
		}
	case spec.VarBoolean:
		tag = "!!bool"
		if text != "true" && text != "false" {
			return nil
		}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text, Style: yaml.DoubleQuotedStyle, Line: at.Line, Column: at.Column}
}

// ParseVars reads a file of values for variables: a YAML mapping of names to
// texts, numbers or booleans. The values are nil if one of the findings is an
// error.
func ParseVars(name string, src []byte) (map[string]string, spec.Diagnostics) {
	p := newParser(newSource(name, string(src[:min(len(src), MaxSize)])), Options{})
	values := map[string]string{}
	if p.checkBytes(len(src)) {
		p.src.secrets = findSecrets(p.src) // to be masked; here they may stand
		if root := p.load(); root != nil {
			p.varsFile(root, values)
		}
	}
	diags := p.diags.Tidy(name)
	if diags.HasErrors() {
		return nil, diags
	}
	return values, diags
}

func (p *parser) varsFile(root *yaml.Node, values map[string]string) {
	if root.Kind != yaml.MappingNode {
		p.at(root, spec.RuleType, "a file of variables must be a mapping, not "+describe(root), "write one NAME: VALUE a line")
		return
	}
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], deref(root.Content[i+1])
		if !p.plainKey(key) {
			continue
		}
		if before, ok := first[key.Value]; ok {
			p.duplicateKey(key, before)
			continue
		}
		first[key.Value] = key
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			p.at(root.Content[i+1], spec.RuleType, fmt.Sprintf("variable %q must be a text, a number or true or false, not %s", spec.Clip(key.Value), describe(value)), "")
			continue
		}
		values[key.Value] = value.Value
	}
}

// checkVars: every value handed in has its variable, and every variable is
// used.
func checkVars(p *parser, d *document) {
	at := d.key("vars")
	for _, name := range slices.Sorted(maps.Keys(p.opts.Vars)) {
		if p.vars[name] != nil {
			continue
		}
		hint := "declare it under vars"
		if like := spec.Closest(name, slices.Sorted(maps.Keys(p.vars))); like != "" {
			hint = fmt.Sprintf("did you mean %q?", like)
		}
		p.at(at, spec.RuleVarValue, fmt.Sprintf("a value is given for %q, but the plan has no such variable", spec.Clip(name)), hint)
	}
	if p.diags.HasErrors() { // what was refused may have used them
		return
	}
	for _, v := range p.vars {
		if !v.used {
			p.at(v.key, spec.RuleUnusedVar, fmt.Sprintf("variable %q is not used", v.name), fmt.Sprintf("write ${var.%s} where it belongs, or remove it", v.name))
		}
	}
}

// values returns the variables as they were filled in.
func (p *parser) values() map[string]string {
	if len(p.vars) == 0 {
		return nil
	}
	values := make(map[string]string, len(p.vars))
	for name, v := range p.vars {
		if v.value != nil {
			values[name] = v.value.Value
		}
	}
	return values
}

// secretVars returns the names of the sensitive variables.
func (p *parser) secretVars() []string {
	var names []string
	for name, v := range p.vars {
		if v.sensitive() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// lookupVar returns the value of a variable. A false ok means that a finding
// says why there is none.
func (p *parser) lookupVar(n *yaml.Node, pc spec.Piece) (value *yaml.Node, ok bool) {
	v := p.vars[pc.Path[0]]
	if v == nil && p.full { // a guess at what was meant looks at every variable
		return nil, false
	}
	if v == nil {
		hint := "declare it under vars"
		if like := spec.Closest(pc.Path[0], slices.Sorted(maps.Keys(p.vars))); like != "" {
			hint = fmt.Sprintf("did you mean %q?", like)
		}
		p.inText(n, pc.Offset, pc.End, fmt.Sprintf("there is no variable %q", spec.Clip(pc.Path[0])), hint)
		return nil, false
	}
	v.used = true
	return v.value, v.value != nil && p.grow(n, len(v.value.Value))
}

// maxFilled bounds the text that variables bring into a plan, all their uses
// together: without it a short plan could grow past any memory.
const maxFilled = 16 << 20

// grow counts text that a variable brings in, and tells whether the plan may
// grow so much.
func (p *parser) grow(n *yaml.Node, size int) bool {
	before := p.filled
	p.filled += size
	if before <= maxFilled && p.filled > maxFilled {
		p.at(n, spec.RuleVarValue, "the variables bring too much text into the plan",
			fmt.Sprintf("all their uses together may bring %d bytes (16 MB); give the devices a payloadFile", maxFilled))
	}
	return p.filled <= maxFilled
}

// resolve follows an alias and fills in the variables of a text. A text that
// is one placeholder takes the variable's type with its value.
func (p *parser) resolve(n *yaml.Node) *yaml.Node {
	v := deref(n)
	if v.Kind != yaml.ScalarNode || v.Tag != "!!str" || !spec.HasPlaceholder(v.Value) {
		return v
	}
	filled, ok := p.resolved[v]
	if !ok {
		filled = p.fill(v)
		p.resolved[v] = filled
	}
	if !p.grow(v, len(filled.Value)) {
		return &yaml.Node{}
	}
	return filled
}

func (p *parser) fill(v *yaml.Node) *yaml.Node {
	pieces, ok := p.pieces(v)
	if !ok {
		return &yaml.Node{} // of no kind that anything accepts; the finding is made
	}
	var b strings.Builder
	for _, pc := range pieces {
		switch pc.Root {
		case "device", "row":
			p.inText(v, pc.Offset, pc.End, "values of a device are not known here",
				"they can stand in payload, desired, tags and confirm.reported")
			return &yaml.Node{}
		case "var":
			value, ok := p.lookupVar(v, pc)
			if !ok {
				return &yaml.Node{}
			}
			if len(pieces) == 1 {
				return value
			}
			b.WriteString(value.Value)
		default:
			b.WriteString(pc.Text)
		}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: b.String(), Style: yaml.DoubleQuotedStyle, Line: v.Line, Column: v.Column}
}

func (p *parser) pieces(v *yaml.Node) ([]spec.Piece, bool) {
	pieces, err := spec.ParsePlaceholders(v.Value)
	if err != nil {
		p.inText(v, err.Offset, err.End, err.Message, err.Hint)
		return nil, false
	}
	return pieces, true
}

// inText reports a fault of a placeholder inside the text of a scalar, by byte
// offsets.
func (p *parser) inText(n *yaml.Node, offset, end int, summary, hint string) {
	p.inQuery(n, spec.RulePlaceholder, &twinquery.Error{Offset: offset, End: end, Message: summary, Hint: hint})
}

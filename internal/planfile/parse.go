package planfile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// Options are what Parse may use besides the text of the plan.
type Options struct {
	// FS is the folder of the plan, from which payloadFile is read. Without it
	// a plan that names files is refused.
	FS fs.FS
	// Vars are the values given to variables, by name.
	Vars map[string]string
	// Lookup finds the value of a variable that Vars does not have; nil looks
	// nowhere. It is told whether the plan says that the value is a secret.
	Lookup func(name string, sensitive bool) (value string, ok bool)
	// Engine carries out all jobs instead of the one that each names; empty leaves
	// them theirs.
	Engine spec.Engine
}

// Parse reads a plan. The name stands in positions and in the report; no file
// is opened under it. The findings are sorted by position; the plan is nil if
// one of them is an error. Parse keeps no reference to src.
func Parse(name string, src []byte, opts Options) (*spec.Plan, spec.Diagnostics) {
	text := strings.TrimPrefix(string(src[:min(len(src), MaxSize)]), "\uFEFF")
	p := newParser(newSource(name, text), opts)
	plan := p.plan(len(src))
	diags := p.diags.Tidy(name)
	if diags.HasErrors() {
		return nil, diags
	}
	sum := sha256.Sum256(src)
	plan.File, plan.SHA256 = name, hex.EncodeToString(sum[:])
	return plan, diags
}

// Bounds on the findings of one plan. Warnings have their own, so that no
// number of them hides an error.
const (
	maxFindings = 200
	maxWarnings = 100
)

// parser reads one plan. Every step reports what it finds and goes on with
// what is left, so that one run shows everything.
type parser struct {
	src   *source
	opts  Options
	table spec.Table
	diags spec.Diagnostics
	full  bool
	// meant holds the places of keys that a misspelled one was taken for, so
	// that they are not reported as missing as well.
	meant    map[string]bool
	vars     map[string]*variable
	resolved map[*yaml.Node]*yaml.Node // texts by node, variables filled in
	filled   int                       // bytes that variables brought in
	files    planFiles
	timezone *string // of defaults
	warnings int

	severities map[spec.Rule]spec.Severity
}

func newParser(src *source, opts Options) *parser {
	return &parser{
		src: src, opts: opts, table: spec.NewTable(), severities: spec.Severities(),
		meant: map[string]bool{}, vars: map[string]*variable{}, resolved: map[*yaml.Node]*yaml.Node{},
		files: planFiles{payloads: map[string]payloadRead{}, lists: map[string]listRead{}},
	}
}

func (p *parser) plan(size int) *spec.Plan {
	if !p.checkBytes(size) {
		return nil
	}
	p.src.secrets = findSecrets(p.src)
	if p.src.secrets.count() > maxFindings { // masking that many in each message would take for ever
		p.src.secrets.texts = nil
		p.reportSecrets(nil)
		return nil
	}
	p.src.secrets.know(p.opts.Vars)
	root := p.load()
	p.reportSecrets(root)
	if root == nil {
		return nil
	}
	doc, ok := p.document(root)
	if !ok {
		return nil
	}
	p.validate(doc)
	for _, c := range checks() {
		c.run(p, doc)
	}
	if p.diags.HasErrors() {
		return nil
	}
	return p.build(doc)
}

// hint takes secrets out of a hint, which may quote the plan. Our own words about
// foundSecrets quote nothing, and a secret may begin like one of them.
func (p *parser) hint(text string) string {
	if text == secretHint {
		return text
	}
	return p.src.secrets.maskText(text)
}

// report notes a finding at a position.
func (p *parser) report(pos spec.Pos, rule spec.Rule, summary, hint string) *spec.Diagnostic {
	severity := p.severities[rule]
	if p.full || severity == spec.SeverityWarning && p.warnings > maxWarnings {
		return &spec.Diagnostic{}
	}
	if severity == spec.SeverityWarning {
		p.warnings++
	}
	switch {
	case severity == spec.SeverityWarning && p.warnings > maxWarnings:
		rule, summary, hint = spec.RuleTooMany, fmt.Sprintf("more than %d warnings; the rest is not shown", maxWarnings), ""
	case len(p.diags)-p.warnings == maxFindings:
		p.full = true
		rule, summary, hint = spec.RuleTooMany, fmt.Sprintf("more than %d findings; the rest is not shown", maxFindings), ""
	}
	pos = p.src.clamp(pos)
	line, shift := spec.Excerpt(p.src.secrets.maskLine(p.src, pos.Line), pos.Column)
	p.diags = append(p.diags, spec.Diagnostic{
		File: p.src.name, Pos: pos, Rule: rule, Severity: severity,
		Summary: spec.Printable(p.src.secrets.maskText(summary)), Hint: spec.Printable(p.hint(hint)),
		Source: spec.Printable(line), Shift: shift,
	})
	return &p.diags[len(p.diags)-1]
}

// at notes a finding at a node.
func (p *parser) at(n *yaml.Node, rule spec.Rule, summary, hint string) {
	if p.full {
		return
	}
	p.report(p.src.nodePos(n), rule, summary, hint).EndColumn = p.src.nodeEnd(n)
}

// object is a mapping of the plan whose keys the table knows.
type object struct {
	place   string // as in "jobs[2].retry"; the plan's own is empty
	node    *yaml.Node
	fields  []spec.Field // that it may have
	entries []entry
}

type entry struct {
	key     string
	keyNode *yaml.Node
	value   *yaml.Node
}

// value returns the node under a key, or nil.
func (o object) value(key string) *yaml.Node {
	for _, e := range o.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// key returns the node of a key, or the mapping itself if it is not there.
func (o object) key(key string) *yaml.Node {
	for _, e := range o.entries {
		if e.key == key {
			return e.keyNode
		}
	}
	return o.node
}

func (o object) child(key string) string {
	if o.place == "" {
		return key
	}
	return o.place + "." + key
}

// given tells whether one of some keys was written, or misspelled.
func (p *parser) given(o object, keys ...string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return o.has(k) || p.meant[o.child(k)] })
}

// field returns the field that a key stands for.
func (o object) field(key string) (spec.Field, bool) {
	for _, f := range o.fields {
		if f.Key() == key {
			return f, true
		}
	}
	return spec.Field{}, false
}

// what names the mapping for messages.
func (o object) what() string {
	switch path := spec.TablePath(o.place); {
	case o.place == "":
		return "the plan"
	case o.place == "defaults":
		return "defaults"
	case path == "jobs[]":
		return "a job"
	case path == "hubs[]":
		return "a hub"
	case path == "vars[]":
		return "a variable"
	case path == "jobs[].needs[]":
		return "an entry of needs"
	default:
		return path[strings.LastIndexByte(path, '.')+1:]
	}
}

// object reads a mapping: keys that the table does not have, that stand twice
// or that this version does not support are findings, and are left out.
func (p *parser) object(place string, n *yaml.Node) (object, bool) {
	o := object{place: place, node: n, fields: p.table[spec.TablePath(place)]}
	m := deref(n)
	if m.Kind != yaml.MappingNode {
		p.wrongType(place, n, "a mapping of keys")
		return o, false
	}
	o.entries = make([]entry, 0, len(m.Content)/2)
	for i := 0; i+1 < len(m.Content); i += 2 {
		if e, ok := p.entry(o, m.Content[i], m.Content[i+1]); ok {
			o.entries = append(o.entries, e)
		}
	}
	return o, true
}

func (p *parser) entry(o object, key, value *yaml.Node) (entry, bool) {
	e := entry{key: key.Value, keyNode: key, value: value}
	if !p.plainKey(key) {
		for _, k := range o.keys() { // a merge may have been meant to bring any of them
			p.meant[o.child(k)] = true
		}
		return e, false
	}
	for _, before := range o.entries {
		if before.key == e.key {
			p.duplicateKey(key, before.keyNode)
			return e, false
		}
	}
	f, ok := o.field(e.key)
	switch {
	case p.full && !ok:
		ok = false
	case !ok:
		p.unknownKey(o, key)
	case o.place == "defaults" && !f.Shared:
		p.at(key, spec.RuleUnknownKey, fmt.Sprintf("%q cannot stand under defaults", e.key), "write it in each job; defaults take "+spec.Join(o.keys(), "and"))
		ok = false
	}
	return e, ok
}

// plainKey refuses keys that no mapping of a plan can have.
func (p *parser) plainKey(key *yaml.Node) bool {
	switch {
	case key.Kind != yaml.ScalarNode || key.Tag == "!!null":
		p.at(key, spec.RuleType, "a key must be plain text", "")
	case key.Tag == "!!merge":
		p.at(key, spec.RuleMergeKey, "merge keys (<<) are not supported", "put shared fields under defaults, or use an alias for the whole value")
	default:
		return true
	}
	return false
}

func (p *parser) duplicateKey(key, first *yaml.Node) {
	at := p.src.nodePos(first)
	p.at(key, spec.RuleDuplicateKey, fmt.Sprintf("key %q stands twice; first on line %d, column %d", key.Value, at.Line, at.Column), "keep one of them")
}

// keys lists the keys that a mapping takes.
func (o object) keys() []string {
	var keys []string
	for _, f := range o.fields {
		if o.place != "defaults" || f.Shared {
			keys = append(keys, f.Key())
		}
	}
	return keys
}

// unknownKey reports a key that the table does not have, with the best guess
// at what was meant: a similar key, a known synonym, or the same key elsewhere.
func (p *parser) unknownKey(o object, key *yaml.Node) {
	hint := "known keys are " + spec.Join(o.keys(), "and")
	if like := spec.Closest(key.Value, o.keys()); like != "" {
		hint = fmt.Sprintf("did you mean %q?", like)
		p.meant[o.child(like)] = true
	} else if f, ok := spec.BySynonym(key.Value, o.fields); ok {
		hint = fmt.Sprintf("did you mean %q? %s", f.Key(), f.Doc)
		p.meant[o.child(f.Key())] = true
	} else if f, ok := p.elsewhere(key.Value); ok {
		hint = fmt.Sprintf("%q belongs in %s", f.Key(), where(f))
	}
	p.at(key, spec.RuleUnknownKey, fmt.Sprintf("%s has no key %q", o.what(), spec.Clip(key.Value)), hint)
}

// elsewhere finds a field of the same name in another mapping.
func (p *parser) elsewhere(key string) (spec.Field, bool) {
	for _, f := range spec.Fields() {
		if f.Key() == key {
			return f, true
		}
	}
	return spec.Field{}, false
}

func where(f spec.Field) string {
	switch parent := f.Parent(); parent {
	case "":
		return "the plan itself"
	case "jobs[]":
		return "a job"
	default:
		return strings.TrimPrefix(parent, "jobs[].")
	}
}

// deref follows an alias to what it stands for.
func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

package fleet

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxPatterns bounds how many groups may name their devices by pattern: an id
// is looked up in each of them.
const maxPatterns = 500

// A parser turns the nodes of one file into a fleet.
type parser struct {
	*reader
	fleet    *Fleet
	places   []*yaml.Node    // of the groups that were read
	modules  map[string]bool // of the group being read
	sections map[string]Section
}

// Parse reads a fleet file. The name stands in findings. The error, if there
// is one, is an [*Error] with everything that was found.
func Parse(name string, src []byte) (*Fleet, error) {
	p := &parser{
		reader:   &reader{file: name},
		fleet:    &Fleet{seed: 1, listed: map[string]int{}},
		sections: map[string]Section{},
	}
	for _, s := range Sections() {
		p.sections[s.Name] = s
	}
	if root := p.document(src); root != nil {
		p.file(root)
	}
	if len(p.findings) > 0 {
		return nil, &Error{Findings: sortFindings(p.findings)}
	}
	return p.fleet, nil
}

// Default returns the fleet that stands in for a missing file: the tutorial's
// device, which answers lockDoor and whose reported properties follow.
func Default() *Fleet {
	f, err := Parse("built-in", []byte(`version: 1
devices:
  - id: myDevice
    methods:
      lockDoor:
        payload: {Response: lockDoor called successfully}
`))
	if err != nil {
		panic("the built-in fleet file is not valid: " + err.Error())
	}
	return f
}

// document returns the root node of the only document in src.
func (p *parser) document(src []byte) *yaml.Node {
	top := &yaml.Node{Line: 1, Column: 1}
	if len(src) > maxSource {
		p.find(top, "the file has %d bytes; at most %d are read", len(src), maxSource)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		p.find(top, "the file is empty; a fleet file starts with version: 1")
		return nil
	case err != nil:
		p.syntax(err)
		return nil
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		p.syntax(err)
		return nil
	default:
		p.find(&second, "a second document; a fleet file has one")
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		p.find(top, "the file holds no value; a fleet file starts with version: 1")
		return nil
	}
	return doc.Content[0]
}

// syntax reports what the YAML parser says, at the line it names.
func (p *parser) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	at := &yaml.Node{Line: 1, Column: 1}
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			at.Line = n
		}
		text = text[len(m[0]):]
	}
	p.find(at, "not YAML: %s", text)
}

// file reads the root mapping. The seed comes first: everything is drawn from it.
func (p *parser) file(root *yaml.Node) {
	m, ok := p.mapping(root, p.sections["fleet file"])
	if !ok {
		return
	}
	if !m.missing("version") {
		if n := p.resolve(m.vals["version"]); n.Kind != yaml.ScalarNode || n.Tag != "!!int" || n.Value != "1" {
			p.find(n, "version: %s is not known; want 1", shown(n))
		}
	}
	if n := m.vals["description"]; n != nil {
		p.text(n, "description")
	}
	if n := m.vals["seed"]; n != nil {
		seed, _ := p.integer(n, "seed", 0, 1<<62)
		p.fleet.seed = uint64(seed)
	}
	if n := m.vals["indexLag"]; n != nil {
		p.fleet.indexLag, _ = p.duration(n, "indexLag")
	}
	if !m.missing("devices") {
		for _, n := range p.list(m.vals["devices"], "devices") {
			p.group(n)
		}
		p.overlaps()
	}
	if n := m.vals["faults"]; n != nil {
		for i, entry := range p.list(n, "faults") {
			p.fault(entry, i)
		}
	}
}

// group reads one entry of the list of devices.
func (p *parser) group(n *yaml.Node) {
	m, ok := p.mapping(n, p.sections["group"])
	if !ok {
		return
	}
	g := &group{first: p.fleet.devices, start: 1}
	if !p.members(m, g) {
		return
	}
	key := g.key()
	g.twin = p.twin(m, g, key, "")
	g.methods = p.methods(m, g, key)
	if n := m.vals["modules"]; n != nil {
		p.modules = map[string]bool{}
		for _, entry := range p.list(n, "modules") {
			p.module(entry, g, key)
		}
	}
	g.traits = p.traits(m.vals["shares"], key, g)
	g.follow = p.follow(m.vals["follow"], key)
	p.fleet.devices += g.count
	p.fleet.groups = append(p.fleet.groups, g)
	p.places = append(p.places, m.node)
	if g.ids == nil {
		p.fleet.patterns = append(p.fleet.patterns, g)
	}
}

// key names the group in the streams of chance: what is drawn for it changes
// only with its own devices.
func (g *group) key() string {
	if g.ids != nil {
		return g.ids[0]
	}
	return g.pattern.prefix + "%" + strconv.FormatInt(g.start, 10) + g.pattern.suffix
}

// module reads one entry of a group's list of modules.
func (p *parser) module(n *yaml.Node, g *group, key string) {
	at := p.resolve(n)
	mod := module{methods: g.methods}
	var m *mapping
	if at.Kind == yaml.MappingNode {
		var ok bool
		if m, ok = p.mapping(n, p.sections["module"]); !ok || m.missing("id") {
			return
		}
		at = m.vals["id"]
	}
	id, ok := p.id(at, "module")
	if !ok {
		return
	}
	if p.modules[id] {
		p.find(at, "module %q is given twice", id)
		return
	}
	p.modules[id] = true
	mod.id = id
	if m != nil {
		mod.twin = p.twin(m, g, key+"/"+id, id)
		if m.vals["methods"] != nil {
			mod.methods = p.methods(m, g, key+"/"+id)
		}
	}
	if len(g.modules) == maxModules {
		p.find(n, "a device has at most %d modules", maxModules)
	}
	g.modules = append(g.modules, mod)
	g.names = append(g.names, id)
}

// maxModules is the hub's limit for one device.
const maxModules = 50

// twin reads the three sections of a twin, of a device or of a module.
func (p *parser) twin(m *mapping, g *group, key, module string) twinTemplate {
	section := func(name string) *template {
		n := m.vals[name]
		if n == nil {
			return nil
		}
		c := &compiler{reader: p.reader, twin: true, group: g, seed: p.fleet.seed, key: key, module: module}
		return c.compile(n, name)
	}
	return twinTemplate{tags: section("tags"), desired: section("desired"), reported: section("reported")}
}

package planfile

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// queryTarget is what the query of a target asks for.
type queryTarget struct {
	text   string // as it was written, variables filled in
	source spec.Source
	where  string
	top    int
	origin func(int) int // maps an offset in text to one in the plan's text
}

// target reads the short form, a query alone, or the long one.
func (p *parser) target(place string, n *yaml.Node) *targetSection {
	t := &targetSection{node: n, found: queryTarget{source: spec.SourceDevices}}
	if deref(n).Kind == yaml.ScalarNode {
		t.object = object{place: place, node: n}
		t.Query, t.query = p.queryNode(place, n), n
	} else {
		o, ok := p.object(place, n)
		if !ok {
			return t
		}
		p.longTarget(t, o)
	}
	if t.Query != nil {
		p.query(t)
	}
	return t
}

// queryNode reads the text of a query. Its variables are filled in later, when
// the query is checked.
func (p *parser) queryNode(place string, n *yaml.Node) *string {
	if v := deref(n); v.Kind == yaml.ScalarNode && v.Tag == "!!str" {
		return &v.Value
	}
	return p.textNode(place, n)
}

func (p *parser) longTarget(t *targetSection, o object) {
	t.object = o
	if t.query = o.value("query"); t.query != nil {
		t.Query = p.queryNode(o.child("query"), t.query)
	}
	t.DevicesFile = p.text(o, "devicesFile")
	t.Devices, t.Exclude = p.texts(o, "devices"), p.texts(o, "exclude")
	t.Limit, t.AllowEmpty, t.All = p.integer(o, "limit"), p.boolean(o, "allowEmpty"), p.boolean(o, "all")
	if n := o.value("expect"); n != nil {
		e, _ := p.object(o.child("expect"), n)
		t.Expect = &expectSection{object: e, Min: p.integer(e, "min"), Max: p.integer(e, "max"), Excluded: p.boolean(e, "excluded")}
	}
}

// checkTargets: a target selects something, and the whole hub only when it
// says so.
func checkTargets(p *parser, d *document) {
	for _, j := range d.Jobs {
		if j.Target != nil {
			p.checkTarget(j.Target)
		}
	}
}

func (p *parser) checkTarget(t *targetSection) {
	all := t.selectsAll()
	switch {
	case all && t.found.where != "":
		p.at(t.key("all"), spec.RuleTarget, "all: true and a condition exclude each other", "remove one of them")
	case all && (t.has("devices") || t.has("devicesFile")):
		p.at(t.key("all"), spec.RuleTarget, "all: true already selects every device that is listed", "remove one of them")
	case !all && t.isLong() && !p.given(t.object, "query", "devices", "devicesFile"):
		p.at(t.node, spec.RuleTarget, "the target selects nothing", "give a query or devices, or all: true for the whole hub")
	}
	p.checkListed(t)
	p.checkExpect(t)
}

// checkExpect finds an expectation that no run could meet. That a list is too
// short for it is for the run to say: lists come and go with their files.
func (p *parser) checkExpect(t *targetSection) {
	e := t.Expect
	if e == nil || e.Min == nil {
		return
	}
	switch least := *e.Min; {
	case e.Max != nil && least > *e.Max:
		p.at(e.key("min"), spec.RuleTarget, fmt.Sprintf("expect wants at least %d devices and at most %d", least, *e.Max), "")
	case t.Limit != nil && *t.Limit > 0 && least > *t.Limit:
		p.at(e.key("min"), spec.RuleTarget, fmt.Sprintf("expect wants at least %d devices, and limit lets %d", least, *t.Limit), "a run would never begin; change one of them")
	}
}

func (t *targetSection) selectsAll() bool { return t.All != nil && *t.All }

func (t *targetSection) isLong() bool { return deref(t.node).Kind == yaml.MappingNode }

// checkListed gathers the listed devices, and finds those that are listed
// twice, or listed in the plan and excluded.
func (p *parser) checkListed(t *targetSection) {
	named := make(map[spec.DeviceID]int, len(t.Devices)) // where each stands
	for i, s := range t.Devices {
		id := deviceID(s)
		if _, twice := named[id]; s != "" && twice {
			p.at(deref(t.value("devices")).Content[i], spec.RuleTarget, fmt.Sprintf("device %q is listed twice", spec.Clip(s)), "keep one of them")
		}
		named[id] = i
		t.ids.Add(id)
	}
	if t.DevicesFile != nil {
		p.devicesFile(t, named)
	}
	excluded := make(map[spec.DeviceID]int, len(t.Exclude))
	for i, s := range t.Exclude {
		excluded[deviceID(s)] = i
	}
	if len(excluded) == 0 {
		return
	}
	for _, s := range t.Devices { // a file may serve several jobs, of which one leaves some out
		if i, both := excluded[deviceID(s)]; both && s != "" {
			p.at(deref(t.value("exclude")).Content[i], spec.RuleTarget, fmt.Sprintf("device %q is both listed and excluded", spec.Clip(s)), "remove one of them")
		}
	}
}

const deviceIDHint = "an id has 1 to 128 letters, digits or any of - : . + % _ # * ? ! ( ) , = @ ; $ '; a module is written device/module"

// deviceID splits "device" or "device/module".
func deviceID(s string) spec.DeviceID {
	device, module, _ := strings.Cut(s, "/")
	return spec.DeviceID{Device: device, Module: module}
}

func deviceIDs(list []string) []spec.DeviceID {
	if len(list) == 0 {
		return nil
	}
	ids := make([]spec.DeviceID, len(list))
	for i, s := range list {
		ids[i] = deviceID(s)
	}
	return ids
}

func validDeviceID(s string) bool {
	device, module, hasModule := strings.Cut(s, "/")
	return validID(device) && (!hasModule || validID(module))
}

// validID tells whether s is an id as the hub's registry takes it.
func validID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !spec.Alphanumeric(c) && strings.IndexByte("-:.+%_#*?!(),=@;$'", c) < 0 {
			return false
		}
	}
	return true
}

// targetText is how the report shows a target.
func targetText(t *targetSection) string {
	var parts []string
	if t.All != nil && *t.All {
		parts = append(parts, "all "+string(t.found.source))
	} else if t.Query != nil {
		parts = append(parts, t.found.text)
	}
	if t.ids.Len() > 0 {
		parts = append(parts, "devices: "+someIDs(&t.ids))
	}
	if len(t.Exclude) > 0 {
		parts = append(parts, "without: "+some(t.Exclude, len(t.Exclude)))
	}
	return strings.Join(parts, "; ")
}

func someIDs(ids *spec.DeviceList) string {
	var words []string
	for i := range min(ids.Len(), listed) {
		words = append(words, ids.At(i).String())
	}
	return some(words, ids.Len())
}

// listed is how many of many are shown.
const listed = 5

// some writes the first few of many.
func some(list []string, total int) string {
	text := strings.Join(list[:min(len(list), listed)], ", ")
	if total > listed {
		text += fmt.Sprintf(" and %d more", total-listed)
	}
	return text
}

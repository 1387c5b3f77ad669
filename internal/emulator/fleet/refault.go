package fleet

import "gopkg.in/yaml.v3"

// WithFaults returns a fleet of the same devices with other faults. The source
// is a list as it stands under faults in a fleet file; an empty list takes all
// faults away. The fleet it is called on stays as it is.
func (f *Fleet) WithFaults(name string, src []byte) (*Fleet, error) {
	changed := *f
	changed.faults = nil
	p := &parser{reader: &reader{file: name}, fleet: &changed, sections: map[string]Section{}}
	for _, s := range Sections() {
		p.sections[s.Name] = s
	}
	root := p.document(src)
	none := root != nil && root.Kind == yaml.SequenceNode && len(root.Content) == 0
	if root != nil && !none {
		for i, entry := range p.list(root, "faults") {
			p.fault(entry, i)
		}
	}
	if len(p.findings) > 0 {
		return nil, &Error{Findings: sortFindings(p.findings)}
	}
	return &changed, nil
}

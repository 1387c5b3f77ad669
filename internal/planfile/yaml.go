package planfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// Bounds on the shape of a plan, far above what a plan needs.
const (
	maxDepth       = 100
	maxAliasWeight = 250_000 // values that aliases add; long texts count for more
)

// NameOf returns the name that a plan's text gives itself and the first of its hubs,
// without checking the plan; empty if they cannot be told.
func NameOf(src []byte) (name, hub string) {
	var head struct {
		Name string `yaml:"name"`
		Hubs []struct {
			HostName string `yaml:"hostName"`
		} `yaml:"hubs"`
	}
	doc, err := decode(yaml.NewDecoder(bytes.NewReader(src[:min(len(src), MaxSize)])))
	if err != nil || doc.Decode(&head) != nil {
		return "", ""
	}
	if len(head.Hubs) > 0 {
		hub = head.Hubs[0].HostName
	}
	return head.Name, hub
}

// load reads the one document of the plan and checks its shape.
func (p *parser) load() *yaml.Node {
	text, shifts := p.jsonEscapes()
	dec := yaml.NewDecoder(strings.NewReader(text))
	doc, err := decode(dec)
	switch {
	case errors.Is(err, io.EOF):
		p.report(spec.Pos{Line: 1, Column: 1}, spec.RuleEmpty, "the plan is empty", `a plan starts with "version: 1"`)
		return nil
	case err != nil:
		p.syntax(text, err)
		return nil
	}
	second, err := decode(dec)
	switch {
	case err == nil:
		p.at(second, spec.RuleDocuments, "a second document starts here", "a plan is one document; remove the --- or split the file")
		return nil
	case !errors.Is(err, io.EOF):
		p.syntax(text, err)
		return nil
	}
	unshift(doc, shifts)
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		p.report(spec.Pos{Line: 1, Column: 1}, spec.RuleEmpty, "the plan is empty", `a plan starts with "version: 1"`)
		return nil
	}
	if !p.checkShape(root) {
		return nil
	}
	return root
}

// decode reads one document. The YAML library panics on faults of its own;
// whatever a plan holds, that must not end the program.
func decode(dec *yaml.Decoder) (doc *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	doc = &yaml.Node{}
	if err := dec.Decode(doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// checkShape bounds the depth of the tree and what its aliases expand to, and
// refuses an alias inside the value that it stands for. All later steps may
// then recurse and follow aliases freely.
func (p *parser) checkShape(root *yaml.Node) bool {
	s := shape{weights: map[*yaml.Node]int{}}
	s.weigh(root, 1)
	switch {
	case s.tagged != nil:
		p.at(s.tagged, spec.RuleTag, fmt.Sprintf("tag %s is not supported", spec.Clip(s.tagged.Tag)), "write the value plainly; !!str alone may mark a text")
	case s.deep != nil:
		p.at(s.deep, spec.RuleNesting, fmt.Sprintf("nested more than %d levels deep", maxDepth), "")
	case s.cycle != nil:
		p.at(s.cycle, spec.RuleAlias, fmt.Sprintf("alias *%s stands inside the value it refers to", spec.Clip(s.cycle.Value)), "")
	case s.bomb != nil:
		p.at(s.bomb, spec.RuleAlias, "aliases expand to too many values", fmt.Sprintf("a plan may gain %d values through aliases", maxAliasWeight))
	default:
		return true
	}
	return false
}

// shape is what a walk over the tree found; the nodes are the first of their
// kind.
type shape struct {
	weights map[*yaml.Node]int // of anchored values; -1 while under way
	aliased int

	deep, cycle, bomb, tagged *yaml.Node
}

// weigh returns the weight of n with its aliases expanded.
func (s *shape) weigh(n *yaml.Node, depth int) int {
	if depth > maxDepth {
		s.deep = n
	}
	if s.deep != nil || s.cycle != nil || s.bomb != nil {
		return 0
	}
	if n.Kind == yaml.AliasNode {
		return s.weighAlias(n, depth)
	}
	if s.tagged == nil && n.Style&yaml.TaggedStyle != 0 && n.Tag != "!!str" {
		s.tagged = n
	}
	if n.Anchor != "" {
		s.weights[n] = -1
	}
	weight := 1 + len(n.Value)/64
	for _, c := range n.Content {
		weight += s.weigh(c, depth+1)
	}
	if n.Anchor != "" {
		s.weights[n] = weight
	}
	return weight
}

func (s *shape) weighAlias(n *yaml.Node, depth int) int {
	weight := s.weights[n.Alias]
	if weight < 0 {
		s.cycle = n
		return 0
	}
	s.aliased += weight
	if s.aliased > maxAliasWeight {
		s.bomb = n
	}
	if depth+height(n.Alias, maxDepth) > maxDepth {
		s.deep = n
	}
	return weight
}

// height returns how deep a tree is, aliases followed, up to a bound.
func height(n *yaml.Node, bound int) int {
	n = deref(n)
	if bound == 0 {
		return 1
	}
	h := 0
	for _, c := range n.Content {
		if c.Kind != yaml.ScalarNode {
			h = max(h, height(c, bound-1))
		}
	}
	return h + 1
}

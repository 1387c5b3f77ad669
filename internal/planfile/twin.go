package planfile

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// Limits of the hub on what twins hold (Understand and use device twins in IoT
// Hub: limits, tags and properties format).
const (
	maxTwinKey   = 1 << 10
	maxTwinText  = 4 << 10
	maxTwinDepth = 10
	maxTwinInt   = 4503599627370495
	minTwinInt   = -4503599627370496
)

// twinLimits are those of one section of a twin.
type twinLimits struct {
	name string
	size int
}

func tagLimits() twinLimits     { return twinLimits{name: "tags", size: 8 << 10} }
func desiredLimits() twinLimits { return twinLimits{name: "desired", size: 32 << 10} }

func reportedLimits() twinLimits { return twinLimits{name: "reported", size: 32 << 10} }

// twinSection reads a patch of one section.
func (p *parser) twinSection(limits twinLimits, n *yaml.Node) *jsonValue {
	m := deref(n)
	if p.rowAlone(m) {
		c := converter{p: p, twin: &twinWalk{}}
		c.value(n)
		return p.jsonValue(&c)
	}
	if m.Kind != yaml.MappingNode {
		p.at(n, spec.RuleType, fmt.Sprintf("%s must be a mapping, not %s", limits.name, describe(n)), fmt.Sprintf("for example %s: {building: 43}", limits.name))
		return nil
	}
	if len(m.Content) == 0 {
		p.at(n, spec.RuleEmptyPatch, limits.name+" is empty, so it would change nothing", "leave it out, or name what to change; null deletes a key")
	}
	walk := &twinWalk{}
	c := converter{p: p, twin: walk}
	c.value(n)
	if walk.size > limits.size {
		p.at(n, spec.RuleTwinSize, fmt.Sprintf("%s counts %d bytes", limits.name, walk.size), fmt.Sprintf("the hub keeps %d bytes of %s in a twin", limits.size, limits.name))
	}
	return p.jsonValue(&c)
}

// rowAlone tells whether a value is nothing but one value of a row, which may be a
// whole object.
func (p *parser) rowAlone(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || !spec.HasPlaceholder(n.Value) {
		return false
	}
	pieces, err := spec.ParsePlaceholders(n.Value)
	return err == nil && len(pieces) == 1 && pieces[0].Root == "row"
}

// twinWalk applies the hub's rules while a section is converted, and measures
// it as the hub does: keys and texts by their bytes, 8 for a number, 4 for a
// boolean.
type twinWalk struct {
	depth  int
	arrays int // how many arrays are around the value
	size   int
}

// enter starts a mapping. The section itself is at depth 0.
func (w *twinWalk) enter(p *parser, m *yaml.Node) {
	if w.depth == maxTwinDepth+1 {
		p.at(m, spec.RuleTwinDepth, fmt.Sprintf("an object at level %d of the twin", w.depth), fmt.Sprintf("the hub takes objects down to level %d", maxTwinDepth))
	}
	w.depth++
}

func (w *twinWalk) leave() { w.depth-- }

func (w *twinWalk) key(p *parser, n *yaml.Node) {
	key := n.Value
	w.size += len(key)
	if len(key) > maxTwinKey {
		p.at(n, spec.RuleTwinSize, fmt.Sprintf("key %q has %d bytes", spec.Clip(key), len(key)), fmt.Sprintf("the hub takes keys of %d bytes (1 KB)", maxTwinKey))
	}
	if key == "" {
		p.at(n, spec.RuleTwinKey, "a key of a twin cannot be empty", "")
		return
	}
	for _, r := range key {
		if !twinKeyRune(r) {
			p.at(n, spec.RuleTwinKey, fmt.Sprintf("key %q holds %q", spec.Clip(key), r), "the hub takes no dot, $, #, white space or control character in a key")
			return
		}
	}
}

func twinKeyRune(r rune) bool {
	return !strings.ContainsRune(".$#", r) && !unicode.IsControl(r) && !unicode.IsSpace(r)
}

func (w *twinWalk) scalar(p *parser, n, v *yaml.Node) {
	switch v.Tag {
	case "!!null":
		if w.arrays > 0 {
			w.null(p, n)
		}
	case "!!bool":
		w.size += 4
	case "!!int", "!!float":
		w.size += 8
		w.number(p, n, v.Value)
	default:
		w.text(p, n, v.Value)
	}
}

// null refuses a null that is, or may come to be, inside an array.
func (w *twinWalk) null(p *parser, n *yaml.Node) {
	p.at(n, spec.RuleTwinNull, "null inside an array", "the hub takes null only as the value of a key outside arrays, where it deletes the key")
}

func (w *twinWalk) number(p *parser, n *yaml.Node, text string) {
	if strings.Trim(text, "+-0123456789") != "" {
		return // a fraction; the range is one of whole numbers
	}
	i, err := strconv.ParseInt(strings.TrimPrefix(text, "+"), 10, 64)
	if err != nil || i < minTwinInt || i > maxTwinInt {
		p.at(n, spec.RuleTwinInteger, fmt.Sprintf("the whole number %s is out of the hub's range", spec.Clip(text)),
			fmt.Sprintf("a twin takes %d to %d; put larger ones in quotes", int64(minTwinInt), int64(maxTwinInt)))
	}
}

func (w *twinWalk) text(p *parser, n *yaml.Node, text string) {
	size := len(text) - strings.Count(text, "\n") - strings.Count(text, "\t")
	w.size += size
	if size > maxTwinText {
		p.at(n, spec.RuleTwinSize, fmt.Sprintf("a text of %d bytes", size), fmt.Sprintf("the hub takes texts of %d bytes (4 KB) in a twin", maxTwinText))
	}
}

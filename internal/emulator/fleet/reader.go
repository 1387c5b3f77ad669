package fleet

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

const (
	maxSource   = 8 << 20   // bytes of a fleet file
	maxCost     = 2_000_000 // of the YAML nodes read, aliases counted at every use
	maxDepth    = 64        // of nesting, aliases included
	maxFindings = 50        // reported before the reader gives up
)

// A reader walks the nodes of one file and collects what it finds.
type reader struct {
	file     string
	findings []Finding
	cost     int
}

// find records a finding at a node.
func (r *reader) find(n *yaml.Node, format string, args ...any) {
	if len(r.findings) < maxFindings {
		r.findings = append(r.findings, Finding{
			File: r.file, Line: max(n.Line, 1), Column: max(n.Column, 1), Text: fmt.Sprintf(format, args...),
		})
	}
}

// resolve follows an alias and counts the node, so that a file cannot unfold
// into more than it is allowed to.
func (r *reader) resolve(n *yaml.Node) *yaml.Node {
	at := n
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	before := r.cost
	r.cost += 1 + len(n.Value)/64
	if before <= maxCost && r.cost > maxCost {
		r.find(at, "the file unfolds into too much here; use fewer aliases")
	}
	return n
}

// exhausted reports whether it is time to give up: the file has unfolded into
// too much, or too much is wrong with it.
func (r *reader) exhausted() bool { return r.cost > maxCost || len(r.findings) >= maxFindings }

// A mapping is a section as it stands in the file.
type mapping struct {
	r    *reader
	node *yaml.Node
	what string
	keys []*yaml.Node
	vals map[string]*yaml.Node
}

// mapping reads a node as a section with exactly the keys it knows.
func (r *reader) mapping(n *yaml.Node, s Section) (*mapping, bool) {
	m, ok := r.anyMapping(n, s.Name)
	if !ok {
		return nil, false
	}
	known := s.names()
	for _, key := range m.keys {
		if !slices.Contains(known, key.Value) {
			hint := nearest(key.Value, known)
			if hint == "" {
				hint = "; known are " + strings.Join(known, ", ")
			}
			r.find(key, "%s: unknown key %q%s", s.Name, key.Value, hint)
			delete(m.vals, key.Value)
		}
	}
	return m, true
}

// anyMapping reads a node as a mapping of names.
func (r *reader) anyMapping(n *yaml.Node, what string) (*mapping, bool) {
	n = r.resolve(n)
	if n.Kind != yaml.MappingNode {
		r.find(n, "%s: want a mapping, got %s", what, kindOf(n))
		return nil, false
	}
	if r.exhausted() {
		return nil, false
	}
	m := &mapping{r: r, node: n, what: what, vals: map[string]*yaml.Node{}}
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := r.resolve(n.Content[i]), n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			r.find(n.Content[i], "%s: a key must be a name, not %s", what, kindOf(key))
		case key.Tag == "!!merge":
			r.find(n.Content[i], "%s: merge keys are not supported; repeat the keys or alias a whole value", what)
		case first[key.Value] != nil:
			r.find(n.Content[i], "%s: key %q is already given in line %d", what, key.Value, first[key.Value].Line)
		default:
			first[key.Value] = n.Content[i]
			m.keys = append(m.keys, &yaml.Node{
				Kind: yaml.ScalarNode, Tag: key.Tag, Value: key.Value,
				Line: n.Content[i].Line, Column: n.Content[i].Column,
			})
			m.vals[key.Value] = val
		}
	}
	return m, true
}

// list reads a node as a list.
func (r *reader) list(n *yaml.Node, what string) []*yaml.Node {
	n = r.resolve(n)
	if n.Kind != yaml.SequenceNode {
		r.find(n, "%s: want a list, got %s", what, kindOf(n))
		return nil
	}
	if len(n.Content) == 0 {
		r.find(n, "%s: the list is empty", what)
	}
	if r.exhausted() {
		return nil
	}
	return n.Content
}

// text reads a node as a string. A number or a date is taken as it is written:
// nobody should have to quote a building's number.
func (r *reader) text(n *yaml.Node, what string) (string, bool) {
	n = r.resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Tag == "!!binary" {
		r.find(n, "%s: want a string, got %s", what, kindOf(n))
		return "", false
	}
	return n.Value, true
}

// integer reads a node as a whole number within limits.
func (r *reader) integer(n *yaml.Node, what string, lo, hi int64) (int64, bool) {
	n = r.resolve(n)
	var v int64
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || n.Decode(&v) != nil {
		r.find(n, "%s: %s is not a whole number from %d to %d", what, shown(n), lo, hi)
		return 0, false
	}
	if v < lo || v > hi {
		r.find(n, "%s: %d is out of range; want a whole number from %d to %d", what, v, lo, hi)
		return 0, false
	}
	return v, true
}

// float reads a node as a finite number.
func (r *reader) float(n *yaml.Node, what string) (float64, bool) {
	n = r.resolve(n)
	var v float64
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" || n.Decode(&v) != nil ||
		math.IsNaN(v) || math.IsInf(v, 0) {
		r.find(n, "%s: %s is not a number", what, shown(n))
		return 0, false
	}
	return v, true
}

// share reads a node as a percentage, into a number from 0 to 1.
func (r *reader) share(n *yaml.Node, what string) float64 {
	n = r.resolve(n)
	digits, percent := strings.CutSuffix(n.Value, "%")
	v, err := strconv.ParseFloat(digits, 64)
	if n.Kind != yaml.ScalarNode || !percent || err != nil || !plainDecimal(digits) || v > 100 {
		r.find(n, "%s: %s is not a share; want a percentage from 0%% to 100%%, such as 2.5%%", what, shown(n))
		return 0
	}
	return v / 100
}

// plainDecimal reports whether s has no sign, no exponent and no words in it.
func plainDecimal(s string) bool { return strings.Trim(s, "0123456789.") == "" }

// duration reads a node as a duration that is not negative: Go's syntax, and d
// for days.
func (r *reader) duration(n *yaml.Node, what string) (time.Duration, bool) {
	n = r.resolve(n)
	d, err := parseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d < 0 || d > maxDelay {
		r.find(n, "%s: %s is not a duration; want one up to 365d, such as 250ms, 1m30s or 2d", what, shown(n))
		return 0, false
	}
	return d, true
}

func parseDuration(s string) (time.Duration, error) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("days %q: %w", days, err)
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || more < 0 {
		return 0, fmt.Errorf("the part after the days, %q, is not a duration", rest)
	}
	return d + more, nil
}

// word reads a node as one of a few words.
func (r *reader) word(n *yaml.Node, what string, words []string) (string, bool) {
	s, ok := r.text(n, what)
	if !ok {
		return "", false
	}
	if !slices.Contains(words, s) {
		hint := nearest(s, words)
		if hint == "" {
			hint = "; want one of " + strings.Join(words, ", ")
		}
		r.find(n, "%s: unknown word %q%s", what, s, hint)
		return "", false
	}
	return s, true
}

// calls reads a node as a range of call numbers.
func (r *reader) calls(n *yaml.Node, what string) calls {
	n = r.resolve(n)
	from, to, isRange := strings.Cut(n.Value, "-")
	first, err := strconv.ParseInt(from, 10, 64)
	last := first
	switch {
	case isRange && to == "":
		last = 0
	case isRange && err == nil:
		last, err = strconv.ParseInt(to, 10, 64)
	}
	if n.Kind != yaml.ScalarNode || err != nil || first < 1 || last != 0 && last < first || to == "0" {
		r.find(n, "%s: %s is not a range of calls; want 1, 2-5 or 3-, counted from 1", what, shown(n))
		return calls{}
	}
	return calls{first: first, last: last}
}

// missing reports, and records, that a required key is not there.
func (m *mapping) missing(key string) bool {
	if m.vals[key] != nil {
		return false
	}
	m.r.find(m.node, "%s: %q is missing", m.what, key)
	return true
}

// exclusive records which of several keys that say the same are given
// together, and returns the first that is given.
func (m *mapping) exclusive(keys ...string) string {
	given := ""
	for _, k := range m.keys {
		if !slices.Contains(keys, k.Value) {
			continue
		}
		if given != "" {
			m.r.find(k, "%s: %q and %q exclude each other", m.what, given, k.Value)
			continue
		}
		given = k.Value
	}
	return given
}

// shown returns a node's value as messages quote it.
func shown(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return kindOf(n)
	}
	if n.Tag == "!!null" {
		return "an empty value"
	}
	return strconv.Quote(shorten(n.Value))
}

func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xc0 == 0x80 { // never inside a character
		cut--
	}
	return s[:cut] + "..."
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "an empty value"
		}
		return strconv.Quote(shorten(n.Value))
	case yaml.DocumentNode, yaml.AliasNode:
	}
	return "nothing"
}

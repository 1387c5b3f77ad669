package spec

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Bounds on the shape of a plan, far above what a plan needs.
const (
	maxDepth       = 100
	maxAliasWeight = 250_000 // values that aliases add; long texts count for more
)

// load reads the one document of the plan and checks its shape.
func (p *parser) load() *yaml.Node {
	dec := yaml.NewDecoder(strings.NewReader(p.src.text))
	doc, err := decode(dec)
	switch {
	case errors.Is(err, io.EOF):
		p.report(Pos{1, 1}, RuleEmpty, "the plan is empty", `a plan starts with "version: 1"`)
		return nil
	case err != nil:
		p.syntax(err)
		return nil
	}
	second, err := decode(dec)
	switch {
	case err == nil:
		p.at(second, RuleDocuments, "a second document starts here", "a plan is one document; remove the --- or split the file")
		return nil
	case !errors.Is(err, io.EOF):
		p.syntax(err)
		return nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		p.report(Pos{1, 1}, RuleEmpty, "the plan is empty", `a plan starts with "version: 1"`)
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
	case s.deep != nil:
		p.at(s.deep, RuleNesting, fmt.Sprintf("nested more than %d levels deep", maxDepth), "")
	case s.cycle != nil:
		p.at(s.cycle, RuleAlias, fmt.Sprintf("alias *%s stands inside the value it refers to", clip(s.cycle.Value)), "")
	case s.bomb != nil:
		p.at(s.bomb, RuleAlias, "aliases expand to too many values", fmt.Sprintf("a plan may gain %d values through aliases", maxAliasWeight))
	default:
		return true
	}
	return false
}

// shape is what a walk over the tree found; the nodes are the first of their
// kind.
type shape struct {
	weights           map[*yaml.Node]int // of anchored values; -1 while under way
	depths            int
	aliased           int
	deep, cycle, bomb *yaml.Node
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

// syntax turns an error of the YAML library into a finding. The library names
// a line at best, and not always the right one; how far it had read when it
// gave up shows the place better.
func (p *parser) syntax(err error) {
	problem := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(problem, "line "); ok {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			problem = after
		}
	}
	offset := min(readUntilError(p.src.text), len(p.src.text))
	m := explainSyntax(problem, p.src.text, offset)
	p.report(p.src.pos(m.offset), RuleSyntax, m.summary, m.hint)
}

// oneByte hands a text out byte by byte and counts: what was read when the
// library gave up is the fault and the few characters it looks ahead.
type oneByte struct {
	text string
	read int
}

func (r *oneByte) Read(b []byte) (int, error) {
	if r.read == len(r.text) {
		return 0, io.EOF
	}
	b[0] = r.text[r.read]
	r.read++
	return 1, nil
}

func readUntilError(text string) int {
	r := &oneByte{text: text}
	dec := yaml.NewDecoder(r)
	for {
		if _, err := decode(dec); err != nil {
			return r.read
		}
	}
}

type syntaxFinding struct {
	offset        int
	summary, hint string
}

// explainSyntax says in a plan author's words what the library's problem is,
// and where.
func explainSyntax(problem, text string, read int) syntaxFinding {
	lineStart := strings.LastIndexByte(text[:read], '\n') + 1
	token := lastToken(text, read)
	switch {
	case strings.Contains(problem, "cannot start any token"), strings.Contains(problem, "tab character"):
		at := max(lineStart, read-4)
		if i := strings.IndexAny(text[at:read], "\t@`%"); i >= 0 {
			at += i
		}
		if at < len(text) && text[at] == '\t' {
			return syntaxFinding{at, "a tab stands where YAML wants spaces", "indent with spaces"}
		}
		r, _ := utf8.DecodeRuneInString(text[at:])
		return syntaxFinding{at, fmt.Sprintf("a plain value cannot start with %q", r), "put the value in quotes"}
	case strings.Contains(problem, "mapping values are not allowed"):
		at := max(strings.LastIndexByte(text[:read], ':'), 0)
		return syntaxFinding{at, `":" is not allowed here`, "put a value that holds a colon and a space in quotes, and check the indentation"}
	case strings.Contains(problem, "unknown anchor"):
		name := strings.Trim(strings.TrimSuffix(strings.TrimPrefix(problem, "unknown anchor "), " referenced"), "'")
		at := max(strings.LastIndex(text[:read], "*"+name), 0)
		return syntaxFinding{at, fmt.Sprintf("there is no anchor &%s before this alias", clip(name)), "put a value that starts with * in quotes"}
	case strings.Contains(problem, "could not find expected ':'"):
		return syntaxFinding{lineIndent(text, token), `a key without ":"`, `a mapping takes one "key: value" a line`}
	case strings.Contains(problem, "did not find expected key"):
		return syntaxFinding{token, "this does not fit what stands around it", "check the indentation, and the quotes and brackets above"}
	case strings.Contains(problem, "expected ',' or"):
		return syntaxFinding{token, "a bracket or brace is not closed here", "close it, or separate the values by commas"}
	case strings.Contains(problem, "unexpected end of stream"), strings.Contains(problem, "unexpected document indicator"):
		return syntaxFinding{openQuote(text, read), "a quote is opened and never closed", "close it"}
	case strings.Contains(problem, "exceeded max depth"):
		return syntaxFinding{token, fmt.Sprintf("nested more than %d levels deep", maxDepth), ""}
	case strings.Contains(problem, "escape"):
		return syntaxFinding{max(strings.LastIndexByte(text[:read], '\\'), 0), "unknown escape in a double-quoted string", `use single quotes, or \\ for a backslash`}
	case strings.Contains(problem, "block sequence entries"):
		return syntaxFinding{token, "a list cannot start on the line of its key", "start it on the next line, or write it in [brackets]"}
	}
	return syntaxFinding{token, "not YAML: " + problem, ""}
}

// lastToken returns where the last word before an offset starts, or the one at
// it.
func lastToken(text string, read int) int {
	end := len(strings.TrimRight(text[:read], " \t\r\n"))
	return lineIndent(text, max(end-1, 0))
}

// lineIndent returns the first character of a line that is not a space.
func lineIndent(text string, at int) int {
	start := strings.LastIndexByte(text[:at], '\n') + 1
	return start + len(text[start:at]) - len(strings.TrimLeft(text[start:at], " "))
}

// openQuote guesses the quote that is still open at an offset: the last one
// that follows what can come before a value.
func openQuote(text string, read int) int {
	for i := read - 1; i > 0; i-- {
		if (text[i] == '"' || text[i] == '\'') && strings.IndexByte(" [{,", text[i-1]) >= 0 {
			return i
		}
	}
	return 0
}

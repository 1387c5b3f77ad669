package spec

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const secretHint = "remove it, replace the key on the hub, and pass credentials to the command instead"

// span is a part of a line that holds a secret, in bytes.
type span struct {
	line, from, to int
	what           string
	rule           Rule // empty: masked, but not reported
}

// secrets knows what in a plan looks like a secret, so that no message shows
// it.
type secrets struct {
	scanner secretScanner
	spans   map[int][]span // by line
	texts   []string       // the secrets themselves, the longest first
	hidden  []string       // of them, those that are secrets whatever they look like

	maskedLine int // the line that was masked last, and what became of it
	masked     string
}

// findSecrets reads the text line by line: comments and keys count as well.
// It stops when there are more than can be shown.
func findSecrets(src *source) secrets {
	s := secrets{scanner: newSecretScanner(), spans: map[int][]span{}}
	inPEM, found := false, 0
	for n := 1; n <= len(src.starts) && found <= maxFindings; n++ {
		line := src.line(n)
		if inPEM {
			s.add(span{line: n, to: len(line)}, line)
			inPEM = !strings.Contains(line, "-----END")
			continue
		}
		spans := s.scanner.find(line)
		if len(spans) > maxFindings { // one line of nothing else: all of it is hidden
			spans = []span{{to: len(line), what: spans[0].what, rule: RuleSecret}}
		}
		for _, f := range spans {
			f.line = n
			s.add(f, line)
		}
		found += len(spans)
		inPEM = strings.Contains(line, "PRIVATE KEY-----") && !strings.Contains(line, "-----END")
	}
	s.sortTexts()
	return s
}

func (s *secrets) add(found span, line string) {
	s.masked = ""
	s.spans[found.line] = append(s.spans[found.line], found)
	if text := line[found.from:found.to]; len(text) >= 8 {
		s.texts = append(s.texts, text)
	}
}

func (s *secrets) sortTexts() {
	slices.SortFunc(s.texts, func(a, b string) int { return len(b) - len(a) })
	s.texts = slices.Compact(s.texts)
}

// know takes note of secrets in values that come from outside the plan. They
// may be there, and are not to be shown.
func (s *secrets) know(values map[string]string) {
	for _, v := range values {
		if len(v) >= 8 && len(s.scanner.find(v)) > 0 {
			s.texts = append(s.texts, v)
		}
	}
	s.sortTexts()
}

// hide takes note of a text that is a secret, whatever it looks like.
func (s *secrets) hide(text string) {
	if text != "" {
		s.texts, s.hidden = append(s.texts, text), append(s.hidden, text)
		s.sortTexts()
		s.masked = ""
	}
}

func (s *secrets) count() int {
	n := 0
	for _, spans := range s.spans {
		n += len(spans)
	}
	return n
}

// maskLine returns a line of the plan with its secrets as asterisks.
func (s *secrets) maskLine(src *source, n int) string {
	if s.maskedLine == n && s.masked != "" { // findings come line by line, and lines can be long
		return s.masked
	}
	line := src.line(n)
	masked := []byte(line)
	for _, f := range s.spans[n] {
		for i := f.from; i < f.to; i++ {
			masked[i] = '*'
		}
	}
	s.maskedLine, s.masked = n, string(masked)
	for _, text := range s.hidden {
		s.masked = strings.ReplaceAll(s.masked, text, strings.Repeat("*", utf8.RuneCountInString(text)))
	}
	if len(s.spans[n]) > 0 && utf8.RuneCountInString(line) != len(line) {
		s.masked = strings.Repeat("*", utf8.RuneCountInString(line)) // bytes are not columns here
	}
	return s.masked
}

// tellTale is how many characters of a secret give it away: a message may hold
// a part of it, cut by its length.
const tellTale = 10

// maskText returns a message without the plan's secrets.
func (s secrets) maskText(text string) string {
	for _, secret := range s.texts {
		text = maskOne(text, secret)
	}
	return text
}

func maskOne(text, secret string) string {
	start := secret[:min(tellTale, len(secret))]
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, start)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("***")
		n := 0
		for more := secret[len(start):]; n < len(rest) && n < len(more) && rest[n] == more[n]; n++ {
		}
		text = rest[n:]
	}
}

// reportSecrets reports what findSecrets saw, and looks again at the values
// themselves: an escape or a folded line can hide a secret from the first look.
func (p *parser) reportSecrets(root *yaml.Node) {
	if root != nil {
		p.hiddenSecrets(root)
	}
	for n := 1; n <= len(p.src.starts); n++ {
		for _, f := range p.src.secrets.spans[n] {
			if f.rule == "" || p.full {
				continue
			}
			line := p.src.line(n)
			pos := Pos{n, utf8.RuneCountInString(line[:f.from]) + 1}
			hint := secretHint
			if f.rule == RuleMaybeSecret {
				hint = "if it is one, remove it and replace it on the hub; a checksum may stay"
			}
			p.report(pos, f.rule, fmt.Sprintf("the plan holds %s", f.what), hint).EndColumn = utf8.RuneCountInString(line[:f.to]) + 1
		}
	}
}

// hiddenSecrets masks every line of a value in which a secret shows only once
// it is decoded.
func (p *parser) hiddenSecrets(root *yaml.Node) {
	s := &p.src.secrets
	scalars := collectScalars(root, nil)
	for i, n := range scalars {
		if n.Style&(yaml.DoubleQuotedStyle|yaml.FoldedStyle|yaml.LiteralStyle) == 0 && !strings.Contains(n.Value, " ") {
			continue
		}
		what := s.scanner.kind(n.Value)
		if what == "" {
			continue
		}
		end := len(p.src.starts)
		if i+1 < len(scalars) {
			end = max(scalars[i+1].Line-1, n.Line)
		}
		if s.known(n.Line, end) {
			continue
		}
		for line := n.Line; line <= end; line++ {
			text := p.src.line(line)
			from := 0
			rule := Rule("")
			if line == n.Line {
				from, rule = min(p.src.offset(p.src.nodePos(n))-p.src.starts[line-1], len(text)), RuleSecret
			}
			s.add(span{line: line, from: from, to: len(text), what: what, rule: rule}, text)
		}
		s.texts = append(s.texts, n.Value)
	}
	s.sortTexts()
}

// known tells whether a secret was seen in some lines already.
func (s *secrets) known(from, to int) bool {
	for n := from; n <= to; n++ {
		if slices.ContainsFunc(s.spans[n], func(f span) bool { return f.rule == RuleSecret }) {
			return true
		}
	}
	return false
}

func collectScalars(n *yaml.Node, list []*yaml.Node) []*yaml.Node {
	if n.Kind == yaml.ScalarNode {
		return append(list, n)
	}
	for _, c := range n.Content {
		list = collectScalars(c, list)
	}
	return list
}

package planfile

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"iothub-runner/internal/secrets"
	"iothub-runner/spec"
)

const secretHint = "remove it, replace the key on the hub, and pass credentials to the command instead"

// foundSecrets knows what in a plan looks like a secret, so that no message shows
// it.
type foundSecrets struct {
	scanner secrets.Scanner
	spans   map[int][]secrets.Span // by line
	texts   []string               // the secrets themselves, the longest first
	hidden  []string               // of them, those that are secrets whatever they look like

	maskedLine int // the line that was masked last, and what became of it
	masked     string
}

// findSecrets reads the text line by line: comments and keys count as well.
// It stops when there are more than can be shown.
func findSecrets(src *source) foundSecrets {
	s := foundSecrets{scanner: secrets.New(), spans: map[int][]secrets.Span{}}
	inPEM, found := false, 0
	for n := 1; n <= len(src.starts) && found <= maxFindings; n++ {
		line := src.line(n)
		if inPEM {
			s.add(secrets.Span{Line: n, To: len(line)}, line)
			inPEM = !strings.Contains(line, "-----END")
			continue
		}
		spans := s.scanner.Find(line)
		if len(spans) > maxFindings { // one line of nothing else: all of it is hidden
			spans = []secrets.Span{{To: len(line), What: spans[0].What, Rule: spec.RuleSecret}}
		}
		for _, f := range spans {
			f.Line = n
			s.add(f, line)
		}
		found += len(spans)
		inPEM = strings.Contains(line, "PRIVATE KEY-----") && !strings.Contains(line, "-----END")
	}
	s.sortTexts()
	return s
}

func (s *foundSecrets) add(found secrets.Span, line string) {
	s.masked = ""
	s.spans[found.Line] = append(s.spans[found.Line], found)
	if text := line[found.From:found.To]; len(text) >= 8 {
		s.texts = append(s.texts, text)
	}
}

func (s *foundSecrets) sortTexts() {
	slices.SortFunc(s.texts, func(a, b string) int { return len(b) - len(a) })
	s.texts = slices.Compact(s.texts)
}

// know takes note of secrets in values that come from outside the plan. They
// may be there, and are not to be shown.
func (s *foundSecrets) know(values map[string]string) {
	for _, v := range values {
		if len(v) >= 8 && len(s.scanner.Find(v)) > 0 {
			s.texts = append(s.texts, v)
		}
	}
	s.sortTexts()
}

// hide takes note of a text that is a secret, whatever it looks like.
func (s *foundSecrets) hide(text string) {
	if text != "" {
		s.texts, s.hidden = append(s.texts, text), append(s.hidden, text)
		s.sortTexts()
		s.masked = ""
	}
}

func (s *foundSecrets) count() int {
	n := 0
	for _, spans := range s.spans {
		n += len(spans)
	}
	return n
}

// maskLine returns a line of the plan with its secrets as asterisks.
func (s *foundSecrets) maskLine(src *source, n int) string {
	if s.maskedLine == n && s.masked != "" { // findings come line by line, and lines can be long
		return s.masked
	}
	line := src.line(n)
	masked := []byte(line)
	for _, f := range s.spans[n] {
		for i := f.From; i < f.To; i++ {
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
func (s foundSecrets) maskText(text string) string {
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
			if f.Rule == "" || p.full {
				continue
			}
			line := p.src.line(n)
			pos := spec.Pos{Line: n, Column: utf8.RuneCountInString(line[:f.From]) + 1}
			hint := secretHint
			if f.Rule == spec.RuleMaybeSecret {
				hint = "if it is one, remove it and replace it on the hub; a checksum may stay"
			}
			p.report(pos, f.Rule, fmt.Sprintf("the plan holds %s", f.What), hint).EndColumn = utf8.RuneCountInString(line[:f.To]) + 1
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
		what := s.scanner.Kind(n.Value)
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
			rule := spec.Rule("")
			if line == n.Line {
				from, rule = min(p.src.offset(p.src.nodePos(n))-p.src.starts[line-1], len(text)), spec.RuleSecret
			}
			s.add(secrets.Span{Line: line, From: from, To: len(text), What: what, Rule: rule}, text)
		}
		s.texts = append(s.texts, n.Value)
	}
	s.sortTexts()
}

// known tells whether a secret was seen in some lines already.
func (s *foundSecrets) known(from, to int) bool {
	for n := from; n <= to; n++ {
		if slices.ContainsFunc(s.spans[n], func(f secrets.Span) bool { return f.Rule == spec.RuleSecret }) {
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

package spec

import (
	"fmt"
	"regexp"
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
	spans map[int][]span // by line
	texts []string       // the secrets themselves, the longest first

	maskedLine int // the line that was masked last, and what became of it
	masked     string
}

// secretForm is a text that gives a secret away. The group of the expression
// is the secret; the words, in lower case, stand in every line that has one.
type secretForm struct {
	what  string
	words []string
	expr  *regexp.Regexp
	rule  Rule
}

var (
	exprSharedKey = regexp.MustCompile(`(?i)(?:SharedAccessKey|AccountKey)\s*=\s*([^\s:;"',}\]]+)`)
	exprSignature = regexp.MustCompile(`(?i)SharedAccessSignature\s*=?\s*(s[a-z]*=[^\s;"',}\]]+)`)
	exprSig       = regexp.MustCompile(`(?i)[?&]sig=([A-Za-z0-9%+/=_-]{16,})`)
	exprBearer    = regexp.MustCompile(`(?i)\bbearer\s+([A-Za-z0-9._~+/-]{20,}=*)`)
	exprJWT       = regexp.MustCompile(`(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)`)
	exprPEM       = regexp.MustCompile(`-----BEGIN [A-Z ]*(PRIVATE KEY)-----`)
	exprNamedKey  = regexp.MustCompile(`(?i)(?:shared_?access_?key|primary_?key|secondary_?key|account_?key|symmetric_?key|device_?key|connection_?string|sas_?token)["']?\s*:\s*["']?([A-Za-z0-9+/_=-]{16,})`)
	exprPassword  = regexp.MustCompile(`(?i)(?:password|passwd|secret|api_?key|token)["']?\s*:\s*["']?([^\s"',}\]]{4,})`)
	exprLongKey   = regexp.MustCompile(`(?:^|[^A-Za-z0-9+/=])([A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{86}==)(?:$|[^A-Za-z0-9+/=])`)
)

func secretForms() []secretForm {
	return []secretForm{
		{"a shared access key", []string{"accesskey", "accountkey"}, exprSharedKey, RuleSecret},
		{"a shared access signature", []string{"sharedaccesssignature"}, exprSignature, RuleSecret},
		{"a shared access signature", []string{"sig="}, exprSig, RuleSecret},
		{"a bearer token", []string{"bearer"}, exprBearer, RuleSecret},
		{"a bearer token", []string{"eyj"}, exprJWT, RuleSecret},
		{"a private key", []string{"private key"}, exprPEM, RuleSecret},
		{"a key", []string{"key", "connection", "token"}, exprNamedKey, RuleSecret},
		{"a text that looks like a key", []string{"="}, exprLongKey, RuleMaybeSecret},
		{"a password", []string{"pass", "secret", "key", "token"}, exprPassword, ""},
	}
}

// findSecrets reads the text line by line: comments and keys count as well.
func findSecrets(src *source) secrets {
	s := secrets{spans: map[int][]span{}}
	forms := secretForms()
	inPEM := false
	for n := 1; n <= len(src.starts); n++ {
		line := src.line(n)
		if inPEM {
			s.add(span{line: n, from: 0, to: len(line)}, line)
			inPEM = !strings.Contains(line, "-----END")
			continue
		}
		if len(line) < 8 {
			continue
		}
		lower := strings.ToLower(line)
		for _, f := range forms {
			s.addLine(n, line, lower, f)
		}
		inPEM = strings.Contains(line, "PRIVATE KEY-----") && !strings.Contains(line, "-----END")
	}
	s.sortTexts()
	return s
}

// addLine notes what one form finds in one line, unless another already did.
func (s *secrets) addLine(n int, line, lower string, f secretForm) {
	if !slices.ContainsFunc(f.words, func(w string) bool { return strings.Contains(lower, w) }) {
		return
	}
	for _, m := range f.expr.FindAllStringSubmatchIndex(line, -1) {
		found := span{line: n, from: m[2], to: m[3], what: f.what, rule: f.rule}
		if found.overlaps(s.spans[n]) || strings.Contains(line[m[2]:m[3]], "${") {
			continue
		}
		if f.expr == exprPEM { // the key follows the words
			found.from, found.to = m[0], len(line)
		}
		s.add(found, line)
	}
}

func (f span) overlaps(others []span) bool {
	return slices.ContainsFunc(others, func(o span) bool { return f.from < o.to && o.from < f.to })
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

func (s *secrets) count() int {
	n := 0
	for _, spans := range s.spans {
		n += len(spans)
	}
	return n
}

// secretIn names the kind of secret that a text holds, or returns "".
func secretIn(text string) string {
	lower := strings.ToLower(text)
	for _, f := range secretForms() {
		words := slices.ContainsFunc(f.words, func(w string) bool { return strings.Contains(lower, w) })
		if f.rule == RuleSecret && words && f.expr.MatchString(text) {
			return f.what
		}
	}
	return ""
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
		what := secretIn(n.Value)
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

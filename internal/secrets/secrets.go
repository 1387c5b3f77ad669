// Package secrets finds what looks like a key, a signature or a token in the text of a
// plan.
package secrets

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"iothub-runner/spec"
)

// Span is a part of a line that holds a secret, in bytes.
type Span struct {
	Line, From, To int
	What           string
	Rule           spec.Rule // empty: masked, but not reported
}

// secretForm is a way in which a secret gives itself away: by a word before
// it. It is matched by hand, because a plan may be megabytes of near misses.
type secretForm struct {
	what  string
	words []string // in lower case; any case matches
	sep   string   // characters of which one stands between word and secret; empty if none does
	least int      // shortest secret
	ends  func(byte) bool
	looks func(string) bool // what else must hold for the secret; may be nil
	rule  spec.Rule         // empty: masked, but not reported
}

// Scanner looks for all forms.
type Scanner []secretForm

// New returns a scanner for all forms.
func New() Scanner {
	return Scanner{
		{"a shared access key", []string{"sharedaccesskey", "accountkey"}, "=", 8, endsWord, looksReal, spec.RuleSecret},
		{"a shared access signature", []string{"sharedaccesssignature"}, " =", 4, endsWord, looksSigned, spec.RuleSecret},
		{"a shared access signature", []string{"?sig=", "&sig="}, "", 16, endsToken, nil, spec.RuleSecret},
		{"a bearer token", []string{"bearer"}, " ", 20, endsToken, looksRandom, spec.RuleSecret},
		{"a bearer token", []string{"eyj"}, "", 20, endsToken, looksJWT, spec.RuleSecret},
		{"a private key", []string{"private key-----"}, "", 0, endsLine, nil, spec.RuleSecret},
		{
			"a key", []string{
				"access_key", "accesskey", "primarykey", "primary_key", "secondarykey", "secondary_key", "account_key", "symmetrickey",
				"symmetric_key", "devicekey", "device_key", "connectionstring", "connection_string", "sastoken", "sas_token",
			}, ":", 16, endsToken, looksRandom, spec.RuleSecret,
		},
		{"a password", []string{"password", "passwd", "secret", "apikey", "api_key", "token"}, ":", 4, endsWord, nil, ""},
	}
}

func endsLine(byte) bool { return false }

func endsWord(c byte) bool { return c <= ' ' || strings.IndexByte(`:;"',}]`, c) >= 0 }

func endsToken(c byte) bool { return !spec.Alphanumeric(c) && strings.IndexByte("+/=_-%.~", c) < 0 }

func looksSigned(s string) bool { return (s[0] == 's' || s[0] == 'S') && strings.Contains(s, "=") }

// looksReal tells a key from what stands for one in an example: ..., <key>,
// YOUR_KEY, xxxxxxxx.
func looksReal(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0x7F || !base64Char(byte(r)) }) < 0 && strings.Trim(s, s[:1]) != ""
}

// looksRandom tells a key or a token from words with dashes between them: one of
// its parts has letters and digits, or letters of both cases in no order.
func looksRandom(s string) bool {
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("-_.~%/", r) }) {
		digits := strings.ContainsAny(part, "0123456789+=")
		letters := strings.IndexFunc(part, unicode.IsLetter) >= 0
		rest := strings.TrimLeftFunc(part, unicode.IsUpper)
		mixed := len(part) >= 12 && strings.IndexFunc(rest, unicode.IsUpper) >= 0
		if len(part) >= 4 && digits && letters || mixed {
			return true
		}
	}
	return false
}

// looksJWT sees what follows "eyJ": the rest of three parts with dots between.
func looksJWT(s string) bool { return strings.Count(s, ".") == 2 }

// Find returns what in a text looks like a secret, in order and without
// overlap.
func (sc Scanner) Find(text string) []Span {
	if len(text) < 8 {
		return nil
	}
	lower := lowerASCII(text)
	var found []Span
	for _, f := range sc {
		for _, w := range f.words {
			found = f.scan(text, lower, w, found)
		}
	}
	return disjoint(scanLongKeys(text, found))
}

// Kind names the kind of secret that a text holds, or returns "".
func (sc Scanner) Kind(text string) string {
	for _, f := range sc.Find(text) {
		if f.Rule == spec.RuleSecret {
			return f.What
		}
	}
	return ""
}

func (f secretForm) scan(text, lower, word string, found []Span) []Span {
	for from := 0; ; {
		i := strings.Index(lower[from:], word)
		if i < 0 {
			return found
		}
		from += i + len(word)
		at, ok := f.skipSep(text, from)
		if !ok {
			continue
		}
		end := at
		for end < len(text) && !f.ends(text[end]) {
			end++
		}
		secret := text[at:end]
		if len(secret) < f.least || f.looks != nil && !f.looks(secret) || strings.HasPrefix(secret, "${") {
			continue
		}
		if f.sep == "" { // the word is part of the secret
			at = from - len(word)
		}
		found = append(found, Span{From: at, To: end, What: f.what, Rule: f.rule})
		from = end
	}
}

// skipSep steps from the end of the word to the secret: over a closing quote,
// the separator with space around it, and an opening quote.
func (f secretForm) skipSep(text string, at int) (int, bool) {
	if f.sep == "" {
		return at, true
	}
	at += leading(text[at:], `"'`)
	n := leading(text[at:], " \t"+f.sep)
	if !strings.ContainsAny(text[at:at+n], f.sep) {
		return at, false
	}
	at += n
	return at + leading(text[at:], `"'`), true
}

func leading(s, chars string) int { return len(s) - len(strings.TrimLeft(s, chars)) }

// scanLongKeys finds base64 of 32 or 64 bytes, the sizes of the hub's keys.
func scanLongKeys(text string, found []Span) []Span {
	for from := 0; from < len(text); {
		if !base64Char(text[from]) {
			from++
			continue
		}
		end := from
		for end < len(text) && base64Char(text[end]) {
			end++
		}
		run := text[from:end]
		if len(run) == 44 && strings.IndexByte(run, '=') == 43 || len(run) == 88 && strings.Index(run, "==") == 86 {
			found = append(found, Span{From: from, To: end, What: "a text that looks like a key", Rule: spec.RuleMaybeSecret})
		}
		from = end
	}
	return found
}

func base64Char(c byte) bool { return spec.Alphanumeric(c) || c == '+' || c == '/' || c == '=' }

// disjoint sorts spans and keeps the first of those that overlap, the surest
// ones first; what it drops is covered.
func disjoint(spans []Span) []Span {
	slices.SortStableFunc(spans, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	var kept []Span
	for _, s := range spans {
		last := len(kept) - 1
		if last < 0 || s.From >= kept[last].To {
			kept = append(kept, s)
			continue
		}
		kept[last].To = max(kept[last].To, s.To)
		if s.Rule == spec.RuleSecret && kept[last].Rule != spec.RuleSecret {
			kept[last].Rule, kept[last].What = s.Rule, s.What
		}
	}
	return kept
}

func lowerASCII(s string) string {
	lower := []byte(s)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	return string(lower)
}

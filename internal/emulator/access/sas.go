package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// This file follows "Control access to IoT Hub with shared access signatures",
// section "SAS token structure".

// SasScheme begins the header that a token stands in.
const SasScheme = "SharedAccessSignature "

// Token is a shared access signature taken apart, not yet believed.
type Token struct {
	scope  string // sr as received: the signature is over this very text
	expiry string // se as received
	sig    []byte
	Policy string // skn; empty when a device's own key signed
}

// ParseToken takes a signature apart. The fields may come in any order.
func ParseToken(text string) (Token, bool) {
	rest, ok := strings.CutPrefix(text, SasScheme)
	if !ok {
		return Token{}, false
	}
	var t Token
	for field := range strings.SplitSeq(rest, "&") {
		key, value, found := strings.Cut(strings.TrimSpace(field), "=")
		if !found {
			return Token{}, false
		}
		switch key {
		case "sr":
			t.scope = value
		case "se":
			t.expiry = value
		case "skn":
			name, err := url.QueryUnescape(value)
			if err != nil {
				return Token{}, false
			}
			t.Policy = name
		case "sig":
			sig, err := decodeSignature(value)
			if err != nil {
				return Token{}, false
			}
			t.sig = sig
		}
	}
	return t, t.scope != "" && t.expiry != "" && len(t.sig) > 0
}

// decodeSignature accepts a signature whose "/", "+" and "=" are escaped or
// not. QueryUnescape would turn a bare "+" into a space; PathUnescape does not.
func decodeSignature(value string) ([]byte, error) {
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

// SignedBy says whether key made the signature.
func (t Token) SignedBy(key []byte) bool {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(t.scope))
	mac.Write([]byte{'\n'})
	mac.Write([]byte(t.expiry))
	return hmac.Equal(mac.Sum(nil), t.sig)
}

// Ends returns when the token expires.
func (t Token) Ends() (time.Time, bool) {
	seconds, err := strconv.ParseInt(t.expiry, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

// Resource splits the scope into host, without its port, and path segments.
func (t Token) Resource() (host string, segments []string, ok bool) {
	plain, err := url.QueryUnescape(t.scope)
	if err != nil {
		return "", nil, false
	}
	plain = strings.Trim(plain, "/")
	host, path, _ := strings.Cut(plain, "/")
	host, _, _ = strings.Cut(host, ":")
	if path != "" {
		segments = strings.Split(path, "/")
	}
	return host, segments, host != ""
}

// Covers says whether a scope reaches a path: it does when its segments begin
// the path's. "/a/b" covers "/a/b/c" but not "/a/bc".
func Covers(scope, path []string) bool {
	if len(scope) > len(path) {
		return false
	}
	for i, segment := range scope {
		if !strings.EqualFold(segment, path[i]) {
			return false
		}
	}
	return true
}

// Grant is what a verified token allows.
type Grant struct {
	Allows  Permission
	Scope   []string // path segments below the host
	Expires time.Time
	// Principal and Role are those of an identity of Entra ID; nil for a key.
	Principal string
	Role      *Role
}

// GrantCache remembers verified tokens, so that a client that sends the same
// one with a million calls pays for one HMAC. Refused tokens are not kept: a
// hostile client could fill the cache with them.
type GrantCache struct {
	mu     sync.RWMutex
	Grants map[string]*Grant // guarded by mu
}

// MaxGrants bounds the cache. Real clients hold a token for an hour, so the
// bound is met by misuse only, and then forgetting everything is cheap.
const MaxGrants = 4096

// MaxKept is the longest token that is kept. A real one has some 200 bytes; a
// hostile client could write what it likes into fields that nobody reads.
const MaxKept = 2 << 10

// Find returns what a token grants, nil if it has not been verified yet.
func (c *GrantCache) Find(text string) *Grant {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.Grants[text]
}

// Keep remembers what a token grants.
func (c *GrantCache) Keep(text string, g *Grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Grants == nil || len(c.Grants) >= MaxGrants {
		c.Grants = make(map[string]*Grant)
	}
	c.Grants[text] = g
}

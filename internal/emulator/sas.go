package emulator

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

const sasScheme = "SharedAccessSignature "

// token is a shared access signature taken apart, not yet believed.
type token struct {
	scope  string // sr as received: the signature is over this very text
	expiry string // se as received
	sig    []byte
	policy string // skn; empty when a device's own key signed
}

// parseToken takes a signature apart. The fields may come in any order.
func parseToken(text string) (token, bool) {
	rest, ok := strings.CutPrefix(text, sasScheme)
	if !ok {
		return token{}, false
	}
	var t token
	for field := range strings.SplitSeq(rest, "&") {
		key, value, found := strings.Cut(strings.TrimSpace(field), "=")
		if !found {
			return token{}, false
		}
		switch key {
		case "sr":
			t.scope = value
		case "se":
			t.expiry = value
		case "skn":
			name, err := url.QueryUnescape(value)
			if err != nil {
				return token{}, false
			}
			t.policy = name
		case "sig":
			sig, err := decodeSignature(value)
			if err != nil {
				return token{}, false
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

// signedBy says whether key made the signature.
func (t token) signedBy(key []byte) bool {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(t.scope))
	mac.Write([]byte{'\n'})
	mac.Write([]byte(t.expiry))
	return hmac.Equal(mac.Sum(nil), t.sig)
}

// ends returns when the token expires.
func (t token) ends() (time.Time, bool) {
	seconds, err := strconv.ParseInt(t.expiry, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

// resource splits the scope into host, without its port, and path segments.
func (t token) resource() (host string, segments []string, ok bool) {
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

// covers says whether a scope reaches a path: it does when its segments begin
// the path's. "/a/b" covers "/a/b/c" but not "/a/bc".
func covers(scope, path []string) bool {
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

// grant is what a verified token allows.
type grant struct {
	allows  permission
	scope   []string // path segments below the host
	expires time.Time
}

// grantCache remembers verified tokens, so that a client that sends the same
// one with a million calls pays for one HMAC. Refused tokens are not kept: a
// hostile client could fill the cache with them.
type grantCache struct {
	mu     sync.RWMutex
	grants map[string]*grant // guarded by mu
}

// maxGrants bounds the cache. Real clients hold a token for an hour, so the
// bound is met by misuse only, and then forgetting everything is cheap.
const maxGrants = 4096

// maxKept is the longest token that is kept. A real one has some 200 bytes; a
// hostile client could write what it likes into fields that nobody reads.
const maxKept = 2 << 10

func (c *grantCache) find(text string) *grant {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.grants[text]
}

func (c *grantCache) keep(text string, g *grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.grants == nil || len(c.grants) >= maxGrants {
		c.grants = make(map[string]*grant)
	}
	c.grants[text] = g
}

// authorize returns what the Authorization header of a service call allows.
// Time is the real one, not the emulated: clients sign by their own clock, and
// an emulated day that passes must not lock them out.
func (s *Server) authorize(header string) (*grant, *apiError) {
	now := time.Now().Add(s.skew())
	if g := s.grants.find(header); g != nil {
		if now.After(g.expires) {
			return nil, errUnauthorized("token expired")
		}
		return g, nil
	}
	if header == "" {
		return nil, errUnauthorized("missing Authorization header")
	}
	if strings.HasPrefix(header, "Bearer ") {
		return s.authorizeBearer()
	}
	t, ok := parseToken(header)
	if !ok {
		return nil, errUnauthorized("the Authorization header holds no shared access signature")
	}
	host, segments, ok := t.resource()
	if !ok || !s.answersTo(host) {
		return nil, errUnauthorized("the token is for another host")
	}
	expires, ok := t.ends()
	if !ok || now.After(expires) {
		return nil, errUnauthorized("token expired")
	}
	p := s.keys.policy(t.policy)
	if p == nil || !t.signedBy(p.keys[0]) && !t.signedBy(p.keys[1]) {
		return nil, errUnauthorized("Unauthorized")
	}
	g := &grant{allows: p.allows, scope: segments, expires: expires}
	if len(header) <= maxKept {
		s.grants.keep(header, g)
	}
	return g, nil
}

// authorizeBearer judges an Entra ID token. There is nobody here who could
// have signed one, so it is taken or refused as the hub was told.
func (s *Server) authorizeBearer() (*grant, *apiError) {
	if s.does(knobBearer, "accept") {
		return &grant{allows: registryRead | registryWrite | serviceConnect}, nil
	}
	return nil, errUnauthorized("the emulator cannot verify Entra ID tokens; start it with the behaviour bearer=accept to take any")
}

package emulator

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"time"
)

// This file follows "Understand the identity registry in your IoT hub".

// identity is what the registry holds of a device or a module. It is never
// changed once made.
type identity struct {
	generation string
	etag       string
	disabled   bool
	reason     string
	statusAt   int64 // when status was last changed; 0 for never
	auth       authKind
	primary    string // key or thumbprint; an empty key is derived
	secondary  string
	edge       bool
	scope      string
	parents    []string
	attributes string // a JSON object; empty for none
}

// authKind is how a device proves who it is.
type authKind int

const (
	authSAS authKind = iota
	authSelfSigned
	authCA
	authNone
)

// String returns the word of the hub.
func (k authKind) String() string {
	switch k {
	case authSAS:
		return "sas"
	case authSelfSigned:
		return "selfSigned"
	case authCA:
		return "certificateAuthority"
	case authNone:
		return "none"
	}
	return "sas"
}

func parseAuth(word string) (authKind, bool) {
	for _, k := range []authKind{authSAS, authSelfSigned, authCA, authNone} {
		if is(word, k.String()) {
			return k, true
		}
	}
	return authSAS, word == ""
}

// identityOf returns a subject's identity. Where nobody has written one it is
// derived, the same at every start from the same state.
func (s *Server) identityOf(m subject) identity {
	switch {
	case m.mod != nil && m.mod.ident != nil:
		return *m.mod.ident
	case m.mod == nil && m.rec != nil && m.rec.ident != nil:
		return *m.rec.ident
	}
	sum := s.keys.derive("identity", m.fullID())
	return identity{
		generation: decimal(binary.BigEndian.Uint64(sum[:8])),
		etag:       identityETag(binary.BigEndian.Uint64(sum[8:])),
	}
}

// fullID is the id under which a subject's keys are derived. No id holds a
// slash.
func (m subject) fullID() string {
	if m.mod == nil {
		return m.id
	}
	return m.id + "/" + m.mod.id
}

// keysOf returns the two keys, or thumbprints, of a subject.
func (s *Server) keysOf(m subject, ident identity) (primary, secondary string) {
	if ident.auth == authSelfSigned {
		return ident.primary, ident.secondary
	}
	primary, secondary = ident.primary, ident.secondary
	if primary == "" {
		primary = s.keys.deviceKey("primary "+ident.generation, m.fullID())
	}
	if secondary == "" {
		secondary = s.keys.deviceKey("secondary "+ident.generation, m.fullID())
	}
	return primary, secondary
}

// decimal spells 18 digits, the length of a generation id.
func decimal(n uint64) string {
	const span = 100_000_000_000_000_000
	return strconv.FormatUint(6*span+n%span, 10)
}

// identityETag has the form of the hub's: base64 of some decimal digits.
func identityETag(n uint64) string {
	return base64.StdEncoding.EncodeToString(strconv.AppendUint(nil, n%1_000_000_000, 10))
}

func randomNumber() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// renewed returns the identity with a new etag, as every write gives it.
func (i identity) renewed() *identity {
	i.etag = identityETag(randomNumber())
	return &i
}

// timeText writes an optional time.
func timeText(unixNano int64) string {
	if unixNano == 0 {
		return neverTime
	}
	return string(appendTime(nil, unixNano))
}

// validID says whether the hub takes an id of a device or a module.
func validID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case !isIDMark(c):
			return false
		}
	}
	return true
}

func isIDMark(c byte) bool {
	switch c {
	case '-', ':', '.', '+', '%', '_', '#', '*', '?', '!', '(', ')', ',', '=', '@', ';', '$', '\'':
		return true
	}
	return false
}

// statusText is the word of the hub.
func (i identity) statusText() string {
	if i.disabled {
		return "disabled"
	}
	return "enabled"
}

// attributesText is how api-version 2024-03-31 shows the attributes.
func (i identity) attributesText() string {
	if i.attributes == "" {
		return "{}"
	}
	return i.attributes
}

// setAttributes puts others in place of the identity's. How large they may be
// is not documented; they are taken for what tags may be.
func (i *identity) setAttributes(raw json.RawMessage) *apiError {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil || compact.Bytes()[0] != '{' {
		return errArgument("The attributes must be a JSON object.")
	}
	if compact.Len() > maxTagsSize {
		return errArgument("The attributes have %d bytes; the limit is %d.", compact.Len(), maxTagsSize)
	}
	i.attributes = compact.String()
	return nil
}

// since returns how long the hub has run, on its own clock.
func (s *Server) since() time.Duration { return s.clock.now().Sub(s.store.born) }

package store

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"

	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/twindoc"
	"iothub-runner/internal/emulator/wire"
)

// This file follows "Understand the identity registry in your IoT hub".

// Identity is what the registry holds of a device or a module. It is never
// changed once made.
type Identity struct {
	Generation string
	Etag       string
	Disabled   bool
	Reason     string
	StatusAt   int64 // when status was last changed; 0 for never
	Auth       AuthKind
	Primary    string // key or thumbprint; an empty key is derived
	Secondary  string
	Edge       bool
	Scope      string
	Parents    []string
	attributes string // a JSON object; empty for none
}

// AuthKind is how a device proves who it is.
type AuthKind int

// The kinds of authentication.
const (
	AuthSAS AuthKind = iota
	AuthSelfSigned
	AuthCA
	AuthNone
)

// String returns the word of the hub.
func (k AuthKind) String() string {
	switch k {
	case AuthSAS:
		return "sas"
	case AuthSelfSigned:
		return "selfSigned"
	case AuthCA:
		return "certificateAuthority"
	case AuthNone:
		return "none"
	}
	return "sas"
}

// ParseAuth reads the kind of authentication; no word is a shared key.
func ParseAuth(word string) (AuthKind, bool) {
	for _, k := range []AuthKind{AuthSAS, AuthSelfSigned, AuthCA, AuthNone} {
		if strings.EqualFold(word, k.String()) {
			return k, true
		}
	}
	return AuthSAS, word == ""
}

// FullID is the id under which a subject's keys are derived. No id holds a
// slash.
func (m Subject) FullID() string {
	if m.Mod == nil {
		return m.ID
	}
	return m.ID + "/" + m.Mod.ID
}

// Decimal spells 18 digits, the length of a generation id.
func Decimal(n uint64) string {
	const span = 100_000_000_000_000_000
	return strconv.FormatUint(6*span+n%span, 10)
}

// IdentityETag has the form of the hub's: base64 of some decimal digits.
func IdentityETag(n uint64) string {
	return base64.StdEncoding.EncodeToString(strconv.AppendUint(nil, n%1_000_000_000, 10))
}

// RandomNumber returns one that nobody can guess.
func RandomNumber() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// Renewed returns the identity with a new etag, as every write gives it.
func (i Identity) Renewed() *Identity {
	i.Etag = IdentityETag(RandomNumber())
	return &i
}

// TimeText writes an optional time.
func TimeText(unixNano int64) string {
	if unixNano == 0 {
		return twindoc.NeverTime
	}
	return string(wire.Time(nil, unixNano))
}

// ValidID says whether the hub takes an id of a device or a module.
func ValidID(id string) bool {
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

// StatusText is the word of the hub.
func (i Identity) StatusText() string {
	if i.Disabled {
		return "disabled"
	}
	return "enabled"
}

// AttributesText is how api-version 2024-03-31 shows the attributes.
func (i Identity) AttributesText() string {
	if i.attributes == "" {
		return "{}"
	}
	return i.attributes
}

// SetAttributes puts others in place of the identity's. How large they may be
// is not documented; they are taken for what tags may be.
func (i *Identity) SetAttributes(raw json.RawMessage) *refuse.Error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil || compact.Bytes()[0] != '{' {
		return refuse.Argument("The attributes must be a JSON object.")
	}
	if compact.Len() > twindoc.MaxTagsSize {
		return refuse.Argument("The attributes have %d bytes; the limit is %d.", compact.Len(), twindoc.MaxTagsSize)
	}
	i.attributes = compact.String()
	return nil
}

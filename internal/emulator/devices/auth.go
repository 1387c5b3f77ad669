package devices

import (
	"crypto/x509"
	"encoding/base64"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/store"
)

// This file follows "Control access to IoT Hub with shared access signatures",
// section "Device", and what clients were recorded to send.

// caller is what a device shows of itself to connect.
type caller struct {
	clientID, user, password string
	cert                     *x509.Certificate // nil for none
}

// visitor is a device that proved who it is.
type visitor struct {
	subject store.Subject
	expires time.Time // of its token; zero for one with a certificate
}

// admit lets a device in, or returns the code to refuse it with and why.
func (s *Front) admit(c caller) (visitor, *packets.Code, string) {
	deviceID, moduleID, ok := s.userName(c.clientID, c.user)
	if !ok {
		return visitor{}, &packets.ErrMalformedUsername, "the user name is not {host}/{clientId}/?api-version=..., for this host and client id"
	}
	unauthorized := &packets.ErrBadUsernameOrPassword
	m, refusal := s.Store.Look(deviceID, moduleID)
	if refusal != nil {
		return visitor{}, unauthorized, "the device is not registered"
	}
	if store.Disabled(m.Rec) == 1 {
		return visitor{}, unauthorized, "the device is disabled"
	}
	t, ok := access.ParseToken(c.password)
	if !ok {
		if why := s.distrustCertificate(m, c.cert); why != "" {
			return visitor{}, unauthorized, why
		}
		return visitor{subject: m}, nil, ""
	}
	expires, ok := t.Ends()
	if !ok || time.Now().Add(s.Skew()).After(expires) {
		return visitor{}, unauthorized, "the token has expired"
	}
	if why := s.distrust(t, m); why != "" {
		return visitor{}, unauthorized, why
	}
	return visitor{subject: m, expires: expires}, nil, ""
}

// userName takes a user name apart. The client id stands in it, so nothing
// depends on which characters an id may have. What follows the id is read by
// nobody: clients put an api-version there, with or without a question mark.
func (s *Front) userName(clientID, user string) (deviceID, moduleID string, ok bool) {
	host, rest, _ := strings.Cut(user, "/")
	host, _, _ = strings.Cut(host, ":")
	rest, named := strings.CutPrefix(rest, clientID)
	if clientID == "" || !named || !s.AnswersTo(host) {
		return "", "", false
	}
	if rest != "" && rest != "/" && !strings.HasPrefix(rest, "/?") && !strings.HasPrefix(rest, "/api-version=") {
		return "", "", false
	}
	deviceID, moduleID, module := strings.Cut(clientID, "/")
	return deviceID, moduleID, deviceID != "" && module == (moduleID != "")
}

// distrust says what is wrong with a token, nothing if it is good: signed by a
// policy that lets devices connect, or by either key of the device itself.
func (s *Front) distrust(t access.Token, m store.Subject) string {
	host, scope, ok := t.Resource()
	if !ok || !s.AnswersTo(host) {
		return "the token is for another host"
	}
	path := []string{"devices", m.ID}
	if m.Mod != nil {
		path = append(path, "modules", m.Mod.ID)
	}
	if !access.Covers(scope, path) || len(scope) > 1 && scope[1] != m.ID {
		return "the token's scope does not cover the device"
	}
	if t.Policy == "" {
		return s.distrustKey(t, m)
	}
	p := s.Keys.Policy(t.Policy)
	if p == nil || p.Allows&access.DeviceConnect == 0 || !t.SignedBy(p.Keys[0]) && !t.SignedBy(p.Keys[1]) {
		return "the token is not signed by a policy that lets devices connect"
	}
	return ""
}

func (s *Front) distrustKey(t access.Token, m store.Subject) string {
	ident := s.IdentityOf(m)
	switch ident.Auth {
	case store.AuthSAS:
	case store.AuthCA:
		return s.distrustAuthority(m)
	case store.AuthSelfSigned, store.AuthNone:
		return "the device does not authenticate with keys"
	}
	primary, secondary := s.KeysOf(m, ident)
	for _, text := range []string{primary, secondary} {
		if key, err := base64.StdEncoding.DecodeString(text); err == nil && t.SignedBy(key) {
			return ""
		}
	}
	return "the token is not signed by a key of the device"
}

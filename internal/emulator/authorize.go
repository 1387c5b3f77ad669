package emulator

import (
	"strings"
	"time"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
)

// authorize returns what the Authorization header of a service call allows.
// Time is the real one, not the emulated: clients sign by their own clock, and
// an emulated day that passes must not lock them out.
func (s *Server) authorize(header string) (*access.Grant, *refuse.Error) {
	now := time.Now().Add(s.Skew())
	if g := s.grants.Find(header); g != nil {
		if now.After(g.Expires) {
			return nil, refuse.Unauthorized("token expired")
		}
		return g, nil
	}
	if header == "" {
		return nil, refuse.Unauthorized("missing Authorization header")
	}
	if token, ok := strings.CutPrefix(header, "Bearer "); ok {
		return s.authorizeBearer(header, token, now)
	}
	t, ok := access.ParseToken(header)
	if !ok {
		return nil, refuse.Unauthorized("the Authorization header holds no shared access signature")
	}
	host, segments, ok := t.Resource()
	if !ok || !s.AnswersTo(host) {
		return nil, refuse.Unauthorized("the token is for another host")
	}
	expires, ok := t.Ends()
	if !ok || now.After(expires) {
		return nil, refuse.Unauthorized("token expired")
	}
	p := s.Keys.Policy(t.Policy)
	if p == nil || !t.SignedBy(p.Keys[0]) && !t.SignedBy(p.Keys[1]) {
		return nil, refuse.Unauthorized("Unauthorized")
	}
	g := &access.Grant{Allows: p.Allows, Scope: segments, Expires: expires}
	if len(header) <= access.MaxKept {
		s.grants.Keep(header, g)
	}
	return g, nil
}

// authorizeBearer judges an Entra ID token, by the keys of the issuer that the hub was
// told of. Without one it is taken or refused as the hub was told.
func (s *Server) authorizeBearer(header, token string, now time.Time) (*access.Grant, *refuse.Error) {
	if s.entra != nil {
		g, err := s.entra.Verify(token, now)
		if err != nil {
			return nil, refuse.Unauthorized("the token is not valid: " + err.Error())
		}
		if len(header) <= access.MaxKept {
			s.grants.Keep(header, g)
		}
		return g, nil
	}
	if s.Does(core.KnobBearer, "accept") {
		return &access.Grant{Allows: access.RegistryRead | access.RegistryWrite | access.ServiceConnect}, nil
	}
	return nil, refuse.Unauthorized("the emulator cannot verify Entra ID tokens; start it with --entra-issuer and --entra-jwks, or with the behaviour bearer=accept to take any")
}

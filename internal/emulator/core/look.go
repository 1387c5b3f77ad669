package core

import (
	"encoding/binary"
	"time"

	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
)

// IdentityOf returns a subject's identity. Where nobody has written one it is
// derived, the same at every start from the same state.
func (s *Hub) IdentityOf(m store.Subject) store.Identity {
	switch {
	case m.Mod != nil && m.Mod.Ident != nil:
		return *m.Mod.Ident
	case m.Mod == nil && m.Rec != nil && m.Rec.Ident != nil:
		return *m.Rec.Ident
	}
	sum := s.Keys.Derive("identity", m.FullID())
	return store.Identity{
		Generation: store.Decimal(binary.BigEndian.Uint64(sum[:8])),
		Etag:       store.IdentityETag(binary.BigEndian.Uint64(sum[8:])),
	}
}

// KeysOf returns the two keys, or thumbprints, of a subject.
func (s *Hub) KeysOf(m store.Subject, ident store.Identity) (primary, secondary string) {
	if ident.Auth == store.AuthSelfSigned {
		return ident.Primary, ident.Secondary
	}
	primary, secondary = ident.Primary, ident.Secondary
	if primary == "" {
		primary = s.Keys.DeviceKey("primary "+ident.Generation, m.FullID())
	}
	if secondary == "" {
		secondary = s.Keys.DeviceKey("secondary "+ident.Generation, m.FullID())
	}
	return primary, secondary
}

// Since returns how long the hub has run, on its own clock.
func (s *Hub) Since() time.Duration { return s.Clock.Now().Sub(s.Store.Born) }

// Seen is what the hub shows of a subject's connection.
type Seen struct {
	State         string
	Heard, Turned string
}

// Seen returns what the hub shows of a subject's connection. Simulated devices
// that are online have been so since the hub's start, and never stir.
func (s *Hub) Seen(m store.Subject) Seen {
	shown := Seen{State: "Disconnected", Heard: twindoc.NeverTime, Turned: twindoc.NeverTime}
	if s.Connected(m) != nil {
		start := store.TimeText(s.Store.Born.UnixNano())
		shown = Seen{State: "Connected", Heard: start, Turned: start}
	}
	p := s.Store.Peek(m.Slot)
	if p == nil {
		return shown
	}
	l := p.Line.Load()
	if l == nil {
		return shown
	}
	l.Mu.Lock()
	a, known := l.Activity[m.ModuleID()]
	l.Mu.Unlock()
	if known {
		shown.Heard, shown.Turned = store.TimeText(a.Heard), store.TimeText(a.Turned)
	}
	return shown
}

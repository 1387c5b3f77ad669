package core

import (
	"strconv"
	"time"

	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
	"iothub-runner/internal/emulator/wire"
	"iothub-runner/internal/twinquery"
)

// AppendTwin writes a twin as the hub shows it to services.
func (s *Hub) AppendTwin(dst []byte, m store.Subject) []byte {
	t := s.Store.Twin(m)
	owner := store.Subject{Device: m.Device, Place: -1}
	ident := s.IdentityOf(owner)
	own := ident
	if m.Mod != nil {
		own = s.IdentityOf(m)
	}
	dst = wire.String(append(dst, `{"deviceId":`...), m.ID)
	if m.Mod != nil {
		dst = wire.String(append(dst, `,"moduleId":`...), m.Mod.ID)
	}
	dst = wire.String(append(dst, `,"etag":`...), store.EtagText(t.ETag))
	dst = wire.String(append(dst, `,"deviceEtag":`...), own.Etag)
	dst = wire.String(append(dst, `,"status":`...), ident.StatusText())
	if ident.Reason != "" {
		dst = wire.String(append(dst, `,"statusReason":`...), ident.Reason)
	}
	dst = wire.String(append(dst, `,"statusUpdateTime":`...), store.TimeText(ident.StatusAt))
	dst = s.AppendActivity(dst, m)
	dst = append(dst, `,"cloudToDeviceMessageCount":`...)
	dst = strconv.AppendInt(dst, int64(s.MailCount(m)), 10)
	dst = wire.String(append(dst, `,"authenticationType":`...), own.Auth.String())
	dst = AppendThumbprints(append(dst, `,"x509Thumbprint":`...), own)
	dst = append(dst, `,"modelId":"","version":`...)
	dst = strconv.AppendInt(dst, t.Version, 10)
	if t.Tags.Raw != "" {
		dst = append(append(dst, `,"tags":`...), t.Tags.Raw...)
	}
	dst = t.Desired.AppendFull(append(dst, `,"properties":{"desired":`...), twindoc.OfDesired)
	dst = t.Reported.AppendFull(append(dst, `,"reported":`...), twindoc.OfReported)
	dst = append(dst, '}')
	if m.Mod == nil {
		dst = strconv.AppendBool(append(dst, `,"capabilities":{"iotEdge":`...), ident.Edge)
		dst = append(dst, '}')
		dst = AppendScopes(dst, ident)
	}
	return append(dst, '}')
}

// AppendActivity writes whether a subject is connected, and when it was last
// heard of.
func (s *Hub) AppendActivity(dst []byte, m store.Subject) []byte {
	shown := s.Seen(m)
	dst = wire.String(append(dst, `,"connectionState":`...), shown.State)
	return wire.String(append(dst, `,"lastActivityTime":`...), shown.Heard)
}

// AppendThumbprints writes the thumbprints of an identity.
func AppendThumbprints(dst []byte, ident store.Identity) []byte {
	if ident.Auth != store.AuthSelfSigned {
		return append(dst, `{"primaryThumbprint":null,"secondaryThumbprint":null}`...)
	}
	dst = appendThumbprint(append(dst, `{"primaryThumbprint":`...), ident.Primary)
	dst = appendThumbprint(append(dst, `,"secondaryThumbprint":`...), ident.Secondary)
	return append(dst, '}')
}

func appendThumbprint(dst []byte, text string) []byte {
	if text == "" {
		return append(dst, "null"...)
	}
	return wire.String(dst, text)
}

// AppendScopes writes the scopes of an identity.
func AppendScopes(dst []byte, ident store.Identity) []byte {
	if ident.Scope != "" {
		dst = wire.String(append(dst, `,"deviceScope":`...), ident.Scope)
	}
	if len(ident.Parents) > 0 {
		dst = wire.Strings(append(dst, `,"parentScopes":`...), ident.Parents)
	}
	return dst
}

// Indexed returns a device as the query index has it.
func (s *Hub) Indexed(n int, now time.Time) (store.Device, bool) {
	d, ok := s.Store.At(n)
	if ok && d.Rec != nil {
		d = s.Settled(store.Subject{Device: d, Place: -1}, now).Device
		for _, mod := range s.Store.Modules(d) {
			if mod.Twin.Pending.IsDue(now) {
				d = s.Settled(store.Subject{Device: d, Mod: mod, Place: s.Store.FleetModule(d, mod.ID)}, now).Device
			}
		}
	}
	if s.Store.Lag.Load() == 0 {
		return d, ok
	}
	return s.Store.Lagged(n, now)
}

// Sources returns the twins that a source has of a device, but for those
// behind the cursor.
func (s *Hub) Sources(src twinquery.Source, d store.Device, behind uint64) []store.Subject {
	if src != twinquery.Modules {
		if behind > 0 {
			return nil
		}
		return []store.Subject{{Device: d, Place: -1}}
	}
	var list []store.Subject
	for i, mod := range s.Store.Modules(d) {
		if uint64(i) >= behind { //nolint:gosec // an index
			list = append(list, store.Subject{Device: d, Mod: mod, Place: s.Store.FleetModule(d, mod.ID)})
		}
	}
	return list
}

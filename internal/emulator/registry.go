package emulator

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
	"iothub-runner/internal/emulator/wire"
)

// This file follows "Understand the identity registry in your IoT hub" and the
// service's REST reference for devices.

// wireKeys and its siblings are the registry's own JSON.
type wireKeys struct {
	Primary   *string `json:"primaryKey"`
	Secondary *string `json:"secondaryKey"`
}

type wireThumbprints struct {
	Primary   *string `json:"primaryThumbprint"`
	Secondary *string `json:"secondaryThumbprint"`
}

type wireAuth struct {
	SymmetricKey   *wireKeys        `json:"symmetricKey"`
	X509Thumbprint *wireThumbprints `json:"x509Thumbprint"`
	Type           string           `json:"type"`
}

type wireCapabilities struct {
	IoTEdge bool `json:"iotEdge"`
}

type wireDevice struct {
	DeviceID                   string           `json:"deviceId"`
	GenerationID               string           `json:"generationId"`
	ETag                       string           `json:"etag"`
	ConnectionState            string           `json:"connectionState"`
	Status                     string           `json:"status"`
	StatusReason               *string          `json:"statusReason"`
	ConnectionStateUpdatedTime string           `json:"connectionStateUpdatedTime"`
	StatusUpdatedTime          string           `json:"statusUpdatedTime"`
	LastActivityTime           string           `json:"lastActivityTime"`
	CloudToDeviceMessageCount  int              `json:"cloudToDeviceMessageCount"`
	Authentication             wireAuth         `json:"authentication"`
	Capabilities               wireCapabilities `json:"capabilities"`
	DeviceScope                string           `json:"deviceScope,omitempty"`
	ParentScopes               []string         `json:"parentScopes,omitempty"`
	Attributes                 json.RawMessage  `json:"attributes,omitempty"`
}

// registryInput is what clients write of a device or a module. They send back
// whole documents; what is not here is the hub's own and is ignored.
type registryInput struct {
	DeviceID       string            `json:"deviceId"`
	ModuleID       string            `json:"moduleId"`
	Status         string            `json:"status"`
	StatusReason   *string           `json:"statusReason"`
	Authentication *wireAuth         `json:"authentication"`
	Capabilities   *wireCapabilities `json:"capabilities"`
	DeviceScope    string            `json:"deviceScope"`
	ParentScopes   []string          `json:"parentScopes"`
	ManagedBy      string            `json:"managedBy"`
	Attributes     json.RawMessage   `json:"attributes"`
}

// getDevice serves GET /devices/{id}.
func (x *exchange) getDevice() *refuse.Error {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	return x.sendDevice(m)
}

// purge serves DELETE /devices/{id}/commands.
func (x *exchange) purge() *refuse.Error {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	x.buf = strconv.AppendInt(append(x.buf[:0], `{"totalMessagesPurged":`...), int64(x.front.Mail.Purge(m.ID)), 10)
	x.buf = wire.String(append(x.buf, `,"deviceId":`...), m.ID)
	x.buf = append(x.buf, `,"moduleId":null}`...)
	return x.done(200)
}

// reach finds what the request addresses and takes it through the last gate.
func (x *exchange) reach() (store.Subject, *refuse.Error) {
	m, refusal := x.LookNow(x.route.device, x.route.module)
	if refusal != nil {
		return m, refusal
	}
	return m, x.pass(m.Device, 1)
}

func (x *exchange) sendDevice(m store.Subject) *refuse.Error {
	doc := x.deviceDoc(m, apiVersion(x.r.URL.RawQuery))
	x.etag = doc.ETag
	x.buf = wire.JSON(x.buf[:0], doc)
	return x.done(200)
}

// deviceDoc is a device as the registry shows it to an api-version.
func (s *Server) deviceDoc(m store.Subject, v version) wireDevice {
	ident, shown := s.IdentityOf(m), s.Seen(m)
	doc := wireDevice{
		DeviceID: m.ID, GenerationID: ident.Generation, ETag: ident.Etag,
		ConnectionState: shown.State, Status: ident.StatusText(), StatusReason: textOrNull(ident.Reason),
		ConnectionStateUpdatedTime: shown.Turned, StatusUpdatedTime: store.TimeText(ident.StatusAt), LastActivityTime: shown.Heard,
		Authentication: s.authDoc(m, ident), Capabilities: wireCapabilities{IoTEdge: ident.Edge},
		DeviceScope: ident.Scope, ParentScopes: ident.Parents, CloudToDeviceMessageCount: s.front.MailCount(m),
	}
	if v == version2024 {
		doc.Attributes = json.RawMessage(ident.AttributesText())
	}
	return doc
}

// authDoc shows the keys of a device that has some, and nulls otherwise.
func (s *Server) authDoc(m store.Subject, ident store.Identity) wireAuth {
	doc := wireAuth{SymmetricKey: &wireKeys{}, X509Thumbprint: &wireThumbprints{}, Type: ident.Auth.String()}
	switch ident.Auth {
	case store.AuthSAS:
		primary, secondary := s.KeysOf(m, ident)
		doc.SymmetricKey = &wireKeys{Primary: &primary, Secondary: &secondary}
	case store.AuthSelfSigned:
		doc.X509Thumbprint = &wireThumbprints{Primary: textOrNull(ident.Primary), Secondary: textOrNull(ident.Secondary)}
	case store.AuthCA, store.AuthNone:
	}
	return doc
}

// textOrNull is null for what is not set.
func textOrNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// listDevices serves GET /devices. It has no continuation: a hub with more
// devices cannot be listed this way.
func (x *exchange) listDevices() *refuse.Error {
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	limit, v := listLimit(x.r.URL.RawQuery), apiVersion(x.r.URL.RawQuery)
	b := append(x.buf[:0], '[')
	for n, found := 0, 0; n < x.Store.Slots() && found < limit; n++ {
		d, ok := x.Store.At(n)
		if !ok {
			continue
		}
		if found > 0 {
			b = append(b, ',')
		}
		b = wire.JSON(b, x.deviceDoc(store.Subject{Device: d, Place: -1}, v))
		found++
	}
	x.buf = append(b, ']')
	return x.done(200)
}

// listLimit reads top. Outside 1 to 1000 the hub takes 1000.
func listLimit(rawQuery string) int {
	const most = 1000
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return most
	}
	n, err := strconv.Atoi(values.Get("top"))
	if err != nil || n < 1 || n > most {
		return most
	}
	return n
}

// putDevice creates a device, or updates it when there is an If-Match header.
func (x *exchange) putDevice() *refuse.Error {
	in, refusal := x.registryInput(x.route.device, "")
	if refusal != nil {
		return refusal
	}
	match := ifMatch(x.r)
	if !match.Given {
		return x.createDevice(in)
	}
	d, ok := x.Store.Find(x.route.device)
	if !ok {
		return refuse.DeviceNotFound(x.route.device)
	}
	if refusal = x.pass(d, 1); refusal != nil {
		return refusal
	}
	if d, refusal = x.updateDevice(d.ID, in, match); refusal != nil {
		return refusal
	}
	return x.sendDevice(store.Subject{Device: d, Place: -1})
}

// updateDevice writes the input over a registered device.
func (s *Server) updateDevice(id string, in registryInput, match twindoc.Condition) (store.Device, *refuse.Error) {
	now := s.Clock.Now()
	d, refusal := s.Store.Update(id, now, func(d store.Device) (*store.Record, *refuse.Error) {
		ident := s.IdentityOf(store.Subject{Device: d, Place: -1})
		if match.Refuses(ident.Etag) {
			return nil, refuse.Precondition()
		}
		if refusal := in.apply(&ident, now.UnixNano()); refusal != nil {
			return nil, refusal
		}
		rec := s.Store.CopyOf(d)
		rec.Ident = ident.Renewed()
		return rec, nil
	})
	if refusal == nil && store.Disabled(d.Rec) == 1 {
		s.Cut(d.Slot, "the device was disabled")
	}
	return d, refusal
}

func (x *exchange) createDevice(in registryInput) *refuse.Error {
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	d, refusal := x.register(x.route.device, in)
	if refusal != nil {
		return refusal
	}
	return x.sendDevice(store.Subject{Device: d, Place: -1})
}

// register creates a device.
func (s *Server) register(id string, in registryInput) (store.Device, *refuse.Error) {
	now := s.Clock.Now()
	ident := store.Identity{Generation: store.Decimal(store.RandomNumber())}
	if refusal := in.apply(&ident, now.UnixNano()); refusal != nil {
		return store.Device{}, refusal
	}
	if ident.Edge && ident.Scope == "" {
		ident.Scope = "ms-azure-iot-edge://" + id + "-" + ident.Generation
	}
	rec := &store.Record{ID: id, Ident: ident.Renewed(), Twin: twindoc.Newborn(now)}
	return s.Store.Create(id, rec, now)
}

// deleteDevice serves DELETE /devices/{id}. The documents ask for If-Match
// always; without one the hub deletes whatever is there.
func (x *exchange) deleteDevice() *refuse.Error {
	d, ok := x.Store.Find(x.route.device)
	if !ok {
		return refuse.DeviceNotFound(x.route.device)
	}
	if refusal := x.pass(d, 1); refusal != nil {
		return refusal
	}
	if refusal := x.unregister(d.ID, ifMatch(x.r)); refusal != nil {
		return refusal
	}
	return x.done(204)
}

func (s *Server) unregister(id string, match twindoc.Condition) *refuse.Error {
	d, refusal := s.Store.Remove(id, s.Clock.Now(), func(d store.Device) *refuse.Error {
		if match.Refuses(s.IdentityOf(store.Subject{Device: d, Place: -1}).Etag) {
			return refuse.Precondition()
		}
		return nil
	})
	if refusal == nil {
		s.Cut(d.Slot, "the device was deleted")
		s.front.Mail.Forget(d.ID)
	}
	return refusal
}

// registryInput reads a body about a device or a module.
func (x *exchange) registryInput(deviceID, moduleID string) (registryInput, *refuse.Error) {
	var in registryInput
	body, refusal := x.jsonBody(maxSmallBody)
	if refusal != nil {
		return in, refusal
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return in, refuse.Format("The body of the request cannot be read: " + err.Error())
	}
	if apiVersion(x.r.URL.RawQuery) != version2024 {
		in.Attributes = nil // unknown to it, and ignored as any other member
	}
	if in.DeviceID != "" && in.DeviceID != deviceID {
		return in, refuse.Argument("The deviceId '%s' in the body is not the one in the URI.", in.DeviceID)
	}
	if in.ModuleID != "" && in.ModuleID != moduleID {
		return in, refuse.Argument("The moduleId '%s' in the body is not the one in the URI.", in.ModuleID)
	}
	if !store.ValidID(deviceID) || moduleID != "" && !store.ValidID(moduleID) {
		return in, refuse.Argument("An id has 1 to 128 characters: ASCII letters, digits and - : . + %% _ # * ? ! ( ) , = @ ; $ '.")
	}
	return in, nil
}

// apply writes the input over an identity.
func (in registryInput) apply(ident *store.Identity, now int64) *refuse.Error {
	switch strings.ToLower(in.Status) {
	case "":
	case "enabled", "disabled":
		off := is(in.Status, "disabled")
		if off != ident.Disabled {
			ident.Disabled, ident.StatusAt = off, now
		}
	default:
		return refuse.Argument("The status '%s' is neither enabled nor disabled.", in.Status)
	}
	if in.StatusReason != nil {
		if len([]rune(*in.StatusReason)) > 128 {
			return refuse.Argument("The statusReason is longer than 128 characters.")
		}
		ident.Reason = *in.StatusReason
	}
	if in.Capabilities != nil {
		ident.Edge = in.Capabilities.IoTEdge
	}
	if in.DeviceScope != "" {
		ident.Scope = in.DeviceScope
	}
	if in.ParentScopes != nil {
		ident.Parents = in.ParentScopes
	}
	if refusal := ident.SetAttributes(in.Attributes); refusal != nil {
		return refusal
	}
	return in.Authentication.apply(ident)
}

// apply writes the authentication over an identity. None at all, an empty one
// and empty keys mean that the hub is to generate them.
func (a *wireAuth) apply(ident *store.Identity) *refuse.Error {
	if a == nil {
		return nil
	}
	kind, ok := store.ParseAuth(a.Type)
	if !ok {
		return refuse.Argument("The authentication type '%s' is none of sas, selfSigned, certificateAuthority, none.", a.Type)
	}
	if a.Type == "" && a.X509Thumbprint.any() {
		kind = store.AuthSelfSigned
	}
	if kind != ident.Auth {
		ident.Primary, ident.Secondary = "", ""
	}
	ident.Auth = kind
	switch kind {
	case store.AuthSAS:
		return a.SymmetricKey.apply(ident)
	case store.AuthSelfSigned:
		return a.X509Thumbprint.apply(ident)
	case store.AuthCA, store.AuthNone:
	}
	return nil
}

func (k *wireKeys) apply(ident *store.Identity) *refuse.Error {
	if k == nil {
		return nil
	}
	for _, key := range []*string{k.Primary, k.Secondary} {
		if key == nil || *key == "" {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(*key)
		if err != nil || len(raw) < 16 || len(raw) > 64 {
			return refuse.Argument("A symmetric key is base64 of 16 to 64 bytes.")
		}
	}
	setText(&ident.Primary, k.Primary)
	setText(&ident.Secondary, k.Secondary)
	return nil
}

func (t *wireThumbprints) any() bool {
	return t != nil && (t.Primary != nil && *t.Primary != "" || t.Secondary != nil && *t.Secondary != "")
}

func (t *wireThumbprints) apply(ident *store.Identity) *refuse.Error {
	if t == nil {
		return nil
	}
	for _, text := range []*string{t.Primary, t.Secondary} {
		if text != nil && *text != "" && !validThumbprint(*text) {
			return refuse.Argument("A thumbprint is 40 or 64 hexadecimal digits.")
		}
	}
	setText(&ident.Primary, t.Primary)
	setText(&ident.Secondary, t.Secondary)
	return nil
}

func validThumbprint(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

func setText(to, from *string) {
	if from != nil && *from != "" {
		*to = *from
	}
}

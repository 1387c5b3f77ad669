package emulator

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
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
func (x *exchange) getDevice() *apiError {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	return x.sendDevice(m)
}

// purge serves DELETE /devices/{id}/commands.
func (x *exchange) purge() *apiError {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	x.buf = strconv.AppendInt(append(x.buf[:0], `{"totalMessagesPurged":`...), int64(x.front.mail.purge(m.id)), 10)
	x.buf = appendString(append(x.buf, `,"deviceId":`...), m.id)
	x.buf = append(x.buf, `,"moduleId":null}`...)
	return x.done(200)
}

// reach finds what the request addresses and takes it through the last gate.
func (x *exchange) reach() (subject, *apiError) {
	m, refusal := x.lookNow(x.route.device, x.route.module)
	if refusal != nil {
		return m, refusal
	}
	return m, x.pass(m.device, 1)
}

func (x *exchange) sendDevice(m subject) *apiError {
	doc := x.deviceDoc(m, apiVersion(x.r.URL.RawQuery))
	x.etag = doc.ETag
	x.buf = appendJSON(x.buf[:0], doc)
	return x.done(200)
}

// deviceDoc is a device as the registry shows it to an api-version.
func (s *Server) deviceDoc(m subject, v version) wireDevice {
	ident, shown := s.identityOf(m), s.seen(m)
	doc := wireDevice{
		DeviceID: m.id, GenerationID: ident.generation, ETag: ident.etag,
		ConnectionState: shown.state, Status: ident.statusText(), StatusReason: textOrNull(ident.reason),
		ConnectionStateUpdatedTime: shown.turned, StatusUpdatedTime: timeText(ident.statusAt), LastActivityTime: shown.heard,
		Authentication: s.authDoc(m, ident), Capabilities: wireCapabilities{IoTEdge: ident.edge},
		DeviceScope: ident.scope, ParentScopes: ident.parents, CloudToDeviceMessageCount: s.mailCount(m),
	}
	if v == version2024 {
		doc.Attributes = json.RawMessage(ident.attributesText())
	}
	return doc
}

// authDoc shows the keys of a device that has some, and nulls otherwise.
func (s *Server) authDoc(m subject, ident identity) wireAuth {
	doc := wireAuth{SymmetricKey: &wireKeys{}, X509Thumbprint: &wireThumbprints{}, Type: ident.auth.String()}
	switch ident.auth {
	case authSAS:
		primary, secondary := s.keysOf(m, ident)
		doc.SymmetricKey = &wireKeys{Primary: &primary, Secondary: &secondary}
	case authSelfSigned:
		doc.X509Thumbprint = &wireThumbprints{Primary: textOrNull(ident.primary), Secondary: textOrNull(ident.secondary)}
	case authCA, authNone:
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
func (x *exchange) listDevices() *apiError {
	if refusal := x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	limit, v := listLimit(x.r.URL.RawQuery), apiVersion(x.r.URL.RawQuery)
	b := append(x.buf[:0], '[')
	for n, found := 0, 0; n < x.store.slots() && found < limit; n++ {
		d, ok := x.store.at(n)
		if !ok {
			continue
		}
		if found > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, x.deviceDoc(subject{device: d, place: -1}, v))
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
func (x *exchange) putDevice() *apiError {
	in, refusal := x.registryInput(x.route.device, "")
	if refusal != nil {
		return refusal
	}
	match := ifMatch(x.r)
	if !match.given {
		return x.createDevice(in)
	}
	d, ok := x.store.find(x.route.device)
	if !ok {
		return errDeviceNotFound(x.route.device)
	}
	if refusal = x.pass(d, 1); refusal != nil {
		return refusal
	}
	if d, refusal = x.updateDevice(d.id, in, match); refusal != nil {
		return refusal
	}
	return x.sendDevice(subject{device: d, place: -1})
}

// updateDevice writes the input over a registered device.
func (s *Server) updateDevice(id string, in registryInput, match condition) (device, *apiError) {
	now := s.clock.now()
	d, refusal := s.store.update(id, now, func(d device) (*record, *apiError) {
		ident := s.identityOf(subject{device: d, place: -1})
		if match.refuses(ident.etag) {
			return nil, errPrecondition()
		}
		if refusal := in.apply(&ident, now.UnixNano()); refusal != nil {
			return nil, refusal
		}
		rec := s.store.copyOf(d)
		rec.ident = ident.renewed()
		return rec, nil
	})
	if refusal == nil && disabled(d.rec) == 1 {
		s.cut(d.slot, "the device was disabled")
	}
	return d, refusal
}

func (x *exchange) createDevice(in registryInput) *apiError {
	if refusal := x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	d, refusal := x.register(x.route.device, in)
	if refusal != nil {
		return refusal
	}
	return x.sendDevice(subject{device: d, place: -1})
}

// register creates a device.
func (s *Server) register(id string, in registryInput) (device, *apiError) {
	now := s.clock.now()
	ident := identity{generation: decimal(randomNumber())}
	if refusal := in.apply(&ident, now.UnixNano()); refusal != nil {
		return device{}, refusal
	}
	if ident.edge && ident.scope == "" {
		ident.scope = "ms-azure-iot-edge://" + id + "-" + ident.generation
	}
	rec := &record{id: id, ident: ident.renewed(), twin: newborn(now)}
	return s.store.create(id, rec, now)
}

// deleteDevice serves DELETE /devices/{id}. The documents ask for If-Match
// always; without one the hub deletes whatever is there.
func (x *exchange) deleteDevice() *apiError {
	d, ok := x.store.find(x.route.device)
	if !ok {
		return errDeviceNotFound(x.route.device)
	}
	if refusal := x.pass(d, 1); refusal != nil {
		return refusal
	}
	if refusal := x.unregister(d.id, ifMatch(x.r)); refusal != nil {
		return refusal
	}
	return x.done(204)
}

func (s *Server) unregister(id string, match condition) *apiError {
	d, refusal := s.store.remove(id, s.clock.now(), func(d device) *apiError {
		if match.refuses(s.identityOf(subject{device: d, place: -1}).etag) {
			return errPrecondition()
		}
		return nil
	})
	if refusal == nil {
		s.cut(d.slot, "the device was deleted")
		s.front.mail.forget(d.id)
	}
	return refusal
}

// registryInput reads a body about a device or a module.
func (x *exchange) registryInput(deviceID, moduleID string) (registryInput, *apiError) {
	var in registryInput
	body, refusal := x.jsonBody(maxSmallBody)
	if refusal != nil {
		return in, refusal
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return in, errFormat("The body of the request cannot be read: " + err.Error())
	}
	if apiVersion(x.r.URL.RawQuery) != version2024 {
		in.Attributes = nil // unknown to it, and ignored as any other member
	}
	if in.DeviceID != "" && in.DeviceID != deviceID {
		return in, errArgument("The deviceId '%s' in the body is not the one in the URI.", in.DeviceID)
	}
	if in.ModuleID != "" && in.ModuleID != moduleID {
		return in, errArgument("The moduleId '%s' in the body is not the one in the URI.", in.ModuleID)
	}
	if !validID(deviceID) || moduleID != "" && !validID(moduleID) {
		return in, errArgument("An id has 1 to 128 characters: ASCII letters, digits and - : . + %% _ # * ? ! ( ) , = @ ; $ '.")
	}
	return in, nil
}

// apply writes the input over an identity.
func (in registryInput) apply(ident *identity, now int64) *apiError {
	switch strings.ToLower(in.Status) {
	case "":
	case "enabled", "disabled":
		off := is(in.Status, "disabled")
		if off != ident.disabled {
			ident.disabled, ident.statusAt = off, now
		}
	default:
		return errArgument("The status '%s' is neither enabled nor disabled.", in.Status)
	}
	if in.StatusReason != nil {
		if len([]rune(*in.StatusReason)) > 128 {
			return errArgument("The statusReason is longer than 128 characters.")
		}
		ident.reason = *in.StatusReason
	}
	if in.Capabilities != nil {
		ident.edge = in.Capabilities.IoTEdge
	}
	if in.DeviceScope != "" {
		ident.scope = in.DeviceScope
	}
	if in.ParentScopes != nil {
		ident.parents = in.ParentScopes
	}
	if refusal := ident.setAttributes(in.Attributes); refusal != nil {
		return refusal
	}
	return in.Authentication.apply(ident)
}

// apply writes the authentication over an identity. None at all, an empty one
// and empty keys mean that the hub is to generate them.
func (a *wireAuth) apply(ident *identity) *apiError {
	if a == nil {
		return nil
	}
	kind, ok := parseAuth(a.Type)
	if !ok {
		return errArgument("The authentication type '%s' is none of sas, selfSigned, certificateAuthority, none.", a.Type)
	}
	if a.Type == "" && a.X509Thumbprint.any() {
		kind = authSelfSigned
	}
	if kind != ident.auth {
		ident.primary, ident.secondary = "", ""
	}
	ident.auth = kind
	switch kind {
	case authSAS:
		return a.SymmetricKey.apply(ident)
	case authSelfSigned:
		return a.X509Thumbprint.apply(ident)
	case authCA, authNone:
	}
	return nil
}

func (k *wireKeys) apply(ident *identity) *apiError {
	if k == nil {
		return nil
	}
	for _, key := range []*string{k.Primary, k.Secondary} {
		if key == nil || *key == "" {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(*key)
		if err != nil || len(raw) < 16 || len(raw) > 64 {
			return errArgument("A symmetric key is base64 of 16 to 64 bytes.")
		}
	}
	setText(&ident.primary, k.Primary)
	setText(&ident.secondary, k.Secondary)
	return nil
}

func (t *wireThumbprints) any() bool {
	return t != nil && (t.Primary != nil && *t.Primary != "" || t.Secondary != nil && *t.Secondary != "")
}

func (t *wireThumbprints) apply(ident *identity) *apiError {
	if t == nil {
		return nil
	}
	for _, text := range []*string{t.Primary, t.Secondary} {
		if text != nil && *text != "" && !validThumbprint(*text) {
			return errArgument("A thumbprint is 40 or 64 hexadecimal digits.")
		}
	}
	setText(&ident.primary, t.Primary)
	setText(&ident.secondary, t.Secondary)
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

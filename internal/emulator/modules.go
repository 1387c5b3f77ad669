package emulator

import (
	"slices"
	"time"
)

// This file follows "Understand and use module twins in IoT Hub" and the
// service's REST reference for modules.

// maxModules is how many modules a device may have.
const maxModules = 50

type wireModule struct {
	ModuleID                   string   `json:"moduleId"`
	ManagedBy                  *string  `json:"managedBy"`
	DeviceID                   string   `json:"deviceId"`
	GenerationID               string   `json:"generationId"`
	ETag                       string   `json:"etag"`
	ConnectionState            string   `json:"connectionState"`
	ConnectionStateUpdatedTime string   `json:"connectionStateUpdatedTime"`
	LastActivityTime           string   `json:"lastActivityTime"`
	CloudToDeviceMessageCount  int      `json:"cloudToDeviceMessageCount"`
	Authentication             wireAuth `json:"authentication"`
}

// getModule serves GET /devices/{id}/modules/{mid}.
func (x *exchange) getModule() *apiError {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	return x.sendModule(m, 200)
}

// listModules serves GET /devices/{id}/modules.
func (x *exchange) listModules() *apiError {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	docs := []wireModule{}
	for _, mod := range x.store.modules(m.device) {
		docs = append(docs, x.moduleDoc(subject{device: m.device, mod: mod, place: x.store.fleetModule(m.device, mod.id)}))
	}
	x.buf = appendJSON(x.buf[:0], docs)
	return x.done(200)
}

// deleteModule serves DELETE /devices/{id}/modules/{mid}.
func (x *exchange) deleteModule() *apiError {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	if refusal = x.removeModule(m.id, m.mod.id, ifMatch(x.r)); refusal != nil {
		return refusal
	}
	return x.done(204)
}

func (x *exchange) sendModule(m subject, status int) *apiError {
	doc := x.moduleDoc(m)
	x.etag = doc.ETag
	x.buf = appendJSON(x.buf[:0], doc)
	return x.done(status)
}

func (s *Server) moduleDoc(m subject) wireModule {
	ident, shown := s.identityOf(m), s.seen(m)
	doc := wireModule{
		ModuleID: m.mod.id, DeviceID: m.id, GenerationID: ident.generation, ETag: ident.etag,
		ConnectionState: shown.state, ConnectionStateUpdatedTime: shown.turned, LastActivityTime: shown.heard,
		Authentication: s.authDoc(m, ident),
	}
	if m.mod.managedBy != "" {
		doc.ManagedBy = &m.mod.managedBy
	}
	return doc
}

// putModule serves PUT: it creates a module, or updates it when there is an
// If-Match header.
func (x *exchange) putModule() *apiError {
	d, ok := x.store.find(x.route.device)
	if !ok {
		return errDeviceNotFound(x.route.device)
	}
	in, refusal := x.registryInput(x.route.device, x.route.module)
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(d, 1); refusal != nil {
		return refusal
	}
	match := ifMatch(x.r)
	m, refusal := x.writeModule(d.id, x.route.module, in, match)
	switch {
	case refusal != nil:
		return refusal
	case !match.given && x.does(knobModuleCreated, "201"):
		return x.sendModule(m, 201)
	}
	return x.sendModule(m, 200)
}

// writeModule creates a module where match is not given, and updates it
// otherwise.
func (s *Server) writeModule(deviceID, moduleID string, in registryInput, match condition) (subject, *apiError) {
	now := s.clock.now()
	d, refusal := s.store.update(deviceID, now, func(d device) (*record, *apiError) {
		next, ident, refusal := s.moduleToWrite(d, moduleID, match, now)
		if refusal != nil {
			return nil, refusal
		}
		setText(&next.managedBy, &in.ManagedBy)
		if refusal = in.Authentication.apply(&ident); refusal != nil {
			return nil, refusal
		}
		next.ident = ident.renewed()
		rec := s.store.copyOf(d)
		rec.modules, rec.own = replaceModule(s.store.modules(d), next), true
		return rec, nil
	})
	if refusal != nil {
		return subject{}, refusal
	}
	return s.store.lookIn(d, moduleID)
}

// moduleToWrite returns a module that may be changed, and its identity: a copy
// of the one there is where match is given, a new one otherwise.
func (s *Server) moduleToWrite(d device, id string, match condition, now time.Time) (*module, identity, *apiError) {
	m, unknown := s.store.lookIn(d, id)
	switch {
	case unknown != nil && match.given:
		return nil, identity{}, unknown
	case unknown == nil && !match.given:
		return nil, identity{}, &apiError{status: 409, code: 409301, name: "ModuleAlreadyExistsOnDevice", text: "A module with ID '" + id + "' is already registered on device '" + d.id + "'."}
	case unknown == nil:
		ident := s.identityOf(m)
		if match.refuses(ident.etag) {
			return nil, ident, errPrecondition()
		}
		copied := *m.mod
		return &copied, ident, nil
	case len(s.store.modules(d)) >= maxModules:
		return nil, identity{}, &apiError{status: 413, code: 413003, name: "TooManyModulesOnDevice", text: "A device has no more than 50 modules."}
	}
	return &module{id: id, twin: newborn(now)}, identity{generation: decimal(randomNumber())}, nil
}

func (s *Server) removeModule(deviceID, moduleID string, match condition) *apiError {
	d, refusal := s.store.update(deviceID, s.clock.now(), func(d device) (*record, *apiError) {
		m, refusal := s.store.lookIn(d, moduleID)
		if refusal != nil {
			return nil, refusal
		}
		if match.refuses(s.identityOf(m).etag) {
			return nil, errPrecondition()
		}
		rec := s.store.copyOf(d)
		rec.modules = slices.DeleteFunc(slices.Clone(s.store.modules(d)), func(m *module) bool { return m.id == moduleID })
		rec.own = true
		return rec, nil
	})
	if refusal != nil {
		return refusal
	}
	s.cutModule(d.slot, moduleID, "the module was deleted")
	s.store.slot(d.slot).forget(moduleID)
	return nil
}

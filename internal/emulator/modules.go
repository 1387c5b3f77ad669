package emulator

import "slices"

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

// moduleRegistry serves /devices/{id}/modules and what lies below it.
func (x *exchange) moduleRegistry() *apiError {
	d, ok := x.store.find(x.route.device)
	if !ok {
		return errDeviceNotFound(x.route.device)
	}
	if x.route.op == opPutModule {
		return x.putModule(d)
	}
	if refusal := x.pass(d, 1); refusal != nil {
		return refusal
	}
	switch x.route.op {
	case opListModules:
		return x.listModules(d)
	case opDeleteModule:
		if refusal := x.removeModule(d.id, x.route.module, ifMatch(x.r)); refusal != nil {
			return refusal
		}
		return x.done(204)
	}
	m, refusal := x.store.lookIn(d, x.route.module)
	if refusal != nil {
		return refusal
	}
	return x.sendModule(m, 200)
}

func (x *exchange) listModules(d device) *apiError {
	docs := []wireModule{}
	for _, mod := range x.store.modules(d) {
		if m, refusal := x.store.lookIn(d, mod.id); refusal == nil {
			docs = append(docs, x.moduleDoc(m))
		}
	}
	x.buf = appendJSON(x.buf[:0], docs)
	return x.done(200)
}

func (x *exchange) sendModule(m subject, status int) *apiError {
	doc := x.moduleDoc(m)
	x.etag = doc.ETag
	x.buf = appendJSON(x.buf[:0], doc)
	return x.done(status)
}

func (s *Server) moduleDoc(m subject) wireModule {
	ident := s.identityOf(m)
	doc := wireModule{
		ModuleID: m.mod.id, DeviceID: m.id, GenerationID: ident.generation, ETag: ident.etag,
		ConnectionState: "Disconnected", ConnectionStateUpdatedTime: neverTime, LastActivityTime: neverTime,
		Authentication: s.authDoc(m, ident),
	}
	if m.mod.managedBy != "" {
		doc.ManagedBy = &m.mod.managedBy
	}
	if s.connected(m) != nil {
		doc.ConnectionState = "Connected"
		doc.ConnectionStateUpdatedTime = timeText(s.store.born.UnixNano())
		doc.LastActivityTime = doc.ConnectionStateUpdatedTime
	}
	return doc
}

// putModule creates a module, or updates it when there is an If-Match header.
func (x *exchange) putModule(d device) *apiError {
	in, refusal := x.registryInput(x.route.device, x.route.module)
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(d, 1); refusal != nil {
		return refusal
	}
	match := ifMatch(x.r)
	m, created, refusal := x.writeModule(d.id, x.route.module, in, match)
	if refusal != nil {
		return refusal
	}
	if created {
		return x.sendModule(m, 201)
	}
	return x.sendModule(m, 200)
}

// writeModule creates a module where match is not given, and updates it
// otherwise.
func (s *Server) writeModule(deviceID, moduleID string, in registryInput, match condition) (m subject, created bool, refusal *apiError) {
	now := s.clock.now()
	d, refusal := s.store.update(deviceID, now, func(d device) (*record, *apiError) {
		mods := s.store.modules(d)
		m, unknown := s.store.lookIn(d, moduleID)
		next := &module{id: moduleID, twin: newborn(now), managedBy: in.ManagedBy}
		ident := identity{generation: decimal(randomNumber())}
		switch {
		case unknown != nil && match.given:
			return nil, unknown
		case unknown == nil && !match.given:
			return nil, &apiError{status: 409, code: 409301, name: "ModuleAlreadyExistsOnDevice", text: "A module with ID '" + moduleID + "' is already registered on device '" + d.id + "'."}
		case unknown == nil:
			ident = s.identityOf(m)
			if match.refuses(ident.etag) {
				return nil, errPrecondition()
			}
			copied := *m.mod
			next = &copied
			setText(&next.managedBy, &in.ManagedBy)
		case len(mods) >= maxModules:
			return nil, &apiError{status: 413, code: 413003, name: "TooManyModulesOnDevice", text: "A device has no more than 50 modules."}
		default:
			created = true
		}
		if refusal := in.Authentication.apply(&ident); refusal != nil {
			return nil, refusal
		}
		next.ident = ident.renewed()
		rec := s.store.copyOf(d)
		rec.modules, rec.own = replaceModule(mods, next), true
		return rec, nil
	})
	if refusal != nil {
		return m, false, refusal
	}
	m, refusal = s.store.lookIn(d, moduleID)
	return m, created, refusal
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
	s.links.mu.Lock()
	l := s.links.live[linkKey{d.slot, moduleID}]
	s.links.mu.Unlock()
	if l != nil {
		l.close("the module was deleted")
	}
	return nil
}

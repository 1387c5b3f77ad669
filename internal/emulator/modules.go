package emulator

import (
	"slices"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
	"iothub-runner/internal/emulator/wire"
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
func (x *exchange) getModule() *refuse.Error {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	return x.sendModule(m, 200)
}

// listModules serves GET /devices/{id}/modules.
func (x *exchange) listModules() *refuse.Error {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	docs := []wireModule{}
	for _, mod := range x.Store.Modules(m.Device) {
		docs = append(docs, x.moduleDoc(store.Subject{Device: m.Device, Mod: mod, Place: x.Store.FleetModule(m.Device, mod.ID)}))
	}
	x.buf = wire.JSON(x.buf[:0], docs)
	return x.done(200)
}

// deleteModule serves DELETE /devices/{id}/modules/{mid}.
func (x *exchange) deleteModule() *refuse.Error {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	if refusal = x.removeModule(m.ID, m.Mod.ID, ifMatch(x.r)); refusal != nil {
		return refusal
	}
	return x.done(204)
}

func (x *exchange) sendModule(m store.Subject, status int) *refuse.Error {
	doc := x.moduleDoc(m)
	x.etag = doc.ETag
	x.buf = wire.JSON(x.buf[:0], doc)
	return x.done(status)
}

func (s *Server) moduleDoc(m store.Subject) wireModule {
	ident, shown := s.IdentityOf(m), s.Seen(m)
	doc := wireModule{
		ModuleID: m.Mod.ID, DeviceID: m.ID, GenerationID: ident.Generation, ETag: ident.Etag,
		ConnectionState: shown.State, ConnectionStateUpdatedTime: shown.Turned, LastActivityTime: shown.Heard,
		Authentication: s.authDoc(m, ident),
	}
	if m.Mod.ManagedBy != "" {
		doc.ManagedBy = &m.Mod.ManagedBy
	}
	return doc
}

// putModule serves PUT: it creates a module, or updates it when there is an
// If-Match header.
func (x *exchange) putModule() *refuse.Error {
	d, ok := x.Store.Find(x.route.device)
	if !ok {
		return refuse.DeviceNotFound(x.route.device)
	}
	in, refusal := x.registryInput(x.route.device, x.route.module)
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(d, 1); refusal != nil {
		return refusal
	}
	match := ifMatch(x.r)
	m, refusal := x.writeModule(d.ID, x.route.module, in, match)
	switch {
	case refusal != nil:
		return refusal
	case !match.Given && x.Does(core.KnobModuleCreated, "201"):
		return x.sendModule(m, 201)
	}
	return x.sendModule(m, 200)
}

// writeModule creates a module where match is not given, and updates it
// otherwise.
func (s *Server) writeModule(deviceID, moduleID string, in registryInput, match twindoc.Condition) (store.Subject, *refuse.Error) {
	now := s.Clock.Now()
	d, refusal := s.Store.Update(deviceID, now, func(d store.Device) (*store.Record, *refuse.Error) {
		next, ident, refusal := s.moduleToWrite(d, moduleID, match, now)
		if refusal != nil {
			return nil, refusal
		}
		setText(&next.ManagedBy, &in.ManagedBy)
		if refusal = in.Authentication.apply(&ident); refusal != nil {
			return nil, refusal
		}
		next.Ident = ident.Renewed()
		rec := s.Store.CopyOf(d)
		rec.Modules, rec.Own = store.ReplaceModule(s.Store.Modules(d), next), true
		return rec, nil
	})
	if refusal != nil {
		return store.Subject{}, refusal
	}
	return s.Store.LookIn(d, moduleID)
}

// moduleToWrite returns a module that may be changed, and its identity: a copy
// of the one there is where match is given, a new one otherwise.
func (s *Server) moduleToWrite(d store.Device, id string, match twindoc.Condition, now time.Time) (*store.Module, store.Identity, *refuse.Error) {
	m, unknown := s.Store.LookIn(d, id)
	switch {
	case unknown != nil && match.Given:
		return nil, store.Identity{}, unknown
	case unknown == nil && !match.Given:
		return nil, store.Identity{}, &refuse.Error{Status: 409, Code: 409301, Name: "ModuleAlreadyExistsOnDevice", Text: "A module with ID '" + id + "' is already registered on device '" + d.ID + "'."}
	case unknown == nil:
		ident := s.IdentityOf(m)
		if match.Refuses(ident.Etag) {
			return nil, ident, refuse.Precondition()
		}
		copied := *m.Mod
		return &copied, ident, nil
	case len(s.Store.Modules(d)) >= maxModules:
		return nil, store.Identity{}, &refuse.Error{Status: 413, Code: 413003, Name: "TooManyModulesOnDevice", Text: "A device has no more than 50 modules."}
	}
	return &store.Module{ID: id, Twin: twindoc.Newborn(now)}, store.Identity{Generation: store.Decimal(store.RandomNumber())}, nil
}

func (s *Server) removeModule(deviceID, moduleID string, match twindoc.Condition) *refuse.Error {
	d, refusal := s.Store.Update(deviceID, s.Clock.Now(), func(d store.Device) (*store.Record, *refuse.Error) {
		m, refusal := s.Store.LookIn(d, moduleID)
		if refusal != nil {
			return nil, refusal
		}
		if match.Refuses(s.IdentityOf(m).Etag) {
			return nil, refuse.Precondition()
		}
		rec := s.Store.CopyOf(d)
		rec.Modules = slices.DeleteFunc(slices.Clone(s.Store.Modules(d)), func(m *store.Module) bool { return m.ID == moduleID })
		rec.Own = true
		return rec, nil
	})
	if refusal != nil {
		return refusal
	}
	s.CutModule(d.Slot, moduleID, "the module was deleted")
	s.front.Mail.Forget(d.ID + "/" + moduleID)
	s.Store.Slot(d.Slot).Forget(moduleID)
	return nil
}

package emulator

import (
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
)

// This file follows "Understand and use device twins in IoT Hub", section
// "Back-end operations", and the service's REST reference for twins.

// getTwin serves GET of /twins/{id} and of a module's twin.
func (x *exchange) getTwin() *refuse.Error {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	return x.sendTwin(m)
}

// changeTwin serves PATCH and PUT.
func (x *exchange) changeTwin() *refuse.Error {
	body, refusal := x.jsonBody(maxTwinBody)
	if refusal != nil {
		return refusal
	}
	w, refusal := twindoc.ParseWrite(body, apiVersion(x.r.URL.RawQuery) != versionBeforeArr)
	if refusal != nil {
		return refusal
	}
	w.Replace = x.route.op == core.OpPutTwin
	if refusal = w.RefuseNulls(); refusal != nil {
		return refusal
	}
	x.CompleteWrite(&w)
	w.Condition = ifMatch(x.r)
	m, refusal := x.Store.Look(x.route.device, x.route.module)
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(m.Device, 1); refusal != nil {
		return refusal
	}
	if m, refusal = x.WriteTwin(m.ID, m.ModuleID(), w); refusal != nil {
		return refusal
	}
	return x.sendTwin(m)
}

func (x *exchange) sendTwin(m store.Subject) *refuse.Error {
	x.etag = store.EtagText(x.Store.Stored(m).ETag)
	x.buf = x.AppendTwin(x.buf[:0], m)
	if m.Mod == nil && apiVersion(x.r.URL.RawQuery) == version2024 {
		x.buf = append(x.buf[:len(x.buf)-1], `,"attributes":`...)
		x.buf = append(append(x.buf, x.IdentityOf(m).AttributesText()...), '}')
	}
	return x.done(200)
}

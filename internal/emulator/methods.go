package emulator

import (
	"strconv"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
)

// This file follows "Understand and invoke direct methods from IoT Hub".

// invokeMethod serves POST /twins/{id}/methods and that of a module.
func (x *exchange) invokeMethod() *refuse.Error {
	body, refusal := x.jsonBody(maxMethodBody)
	if refusal != nil {
		return refusal
	}
	req, refusal := x.ParseMethod(body)
	if refusal != nil {
		return refusal
	}
	m, refusal := x.Store.Look(x.route.device, x.route.module)
	if refusal != nil {
		return refusal.OfMethod()
	}
	if refusal = x.pass(m.Device, core.MethodCost(len(req.Payload))); refusal != nil {
		return refusal
	}
	answer, refusal := x.CallDevice(x.r.Context(), m, req)
	if refusal != nil {
		return refusal
	}
	b := append(x.buf[:0], `{"status":`...)
	b = strconv.AppendInt(b, int64(answer.Status), 10)
	b = append(b, `,"payload":`...)
	if answer.Payload == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, answer.Payload...)
	}
	x.buf = append(b, '}')
	return x.done(200)
}

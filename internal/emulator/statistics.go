package emulator

import (
	"strconv"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
)

// This file follows the service's REST reference for registry and service
// statistics.

// deviceStatistics serves GET /statistics/devices.
func (x *exchange) deviceStatistics() *refuse.Error {
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	total, off := x.Store.Total.Load(), x.Store.Disabled.Load()
	b := strconv.AppendInt(append(x.buf[:0], `{"totalDeviceCount":`...), total, 10)
	b = strconv.AppendInt(append(b, `,"enabledDeviceCount":`...), total-off, 10)
	b = strconv.AppendInt(append(b, `,"disabledDeviceCount":`...), off, 10)
	x.buf = append(b, '}')
	return x.done(200)
}

// serviceStatistics serves GET /statistics/service.
func (x *exchange) serviceStatistics() *refuse.Error {
	if refusal := x.pass(core.Nowhere(), 1); refusal != nil {
		return refusal
	}
	b := strconv.AppendInt(append(x.buf[:0], `{"connectedDeviceCount":`...), x.connectedCount(), 10)
	x.buf = append(b, '}')
	return x.done(200)
}

// connectedCount walks all devices. Presence is computed, not kept, and nobody
// asks for this often.
func (s *Server) connectedCount() int64 {
	var n int64
	for i := range s.Store.Slots() {
		if d, ok := s.Store.At(i); ok && s.Connected(store.Subject{Device: d, Place: -1}) != nil {
			n++
		}
	}
	return n
}

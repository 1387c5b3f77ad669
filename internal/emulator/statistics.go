package emulator

import "strconv"

// This file follows the service's REST reference for registry and service
// statistics.

// deviceStatistics serves GET /statistics/devices.
func (x *exchange) deviceStatistics() *apiError {
	if refusal := x.pass(nowhere(), 1); refusal != nil {
		return refusal
	}
	total, off := x.store.total.Load(), x.store.disabled.Load()
	b := strconv.AppendInt(append(x.buf[:0], `{"totalDeviceCount":`...), total, 10)
	b = strconv.AppendInt(append(b, `,"enabledDeviceCount":`...), total-off, 10)
	b = strconv.AppendInt(append(b, `,"disabledDeviceCount":`...), off, 10)
	x.buf = append(b, '}')
	return x.done(200)
}

// serviceStatistics serves GET /statistics/service.
func (x *exchange) serviceStatistics() *apiError {
	if refusal := x.pass(nowhere(), 1); refusal != nil {
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
	for i := range s.store.slots() {
		if d, ok := s.store.at(i); ok && s.connected(subject{device: d, place: -1}) != nil {
			n++
		}
	}
	return n
}

package devices

import (
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
)

// This file follows "IoT Hub quotas and throttling" for what devices do, and is
// where the faults strike them.
//
// A device is held back by not reading on: what it sends next waits, in the
// network at last, so that nobody's backlog is kept in memory.

// deviceOperation is what a device asks of the hub.
type deviceOperation struct {
	fault    fleet.Operation
	throttle core.ThrottleClass
	word     string // of a refusal
}

func opOfConnect() deviceOperation {
	return deviceOperation{fleet.OpConnect, core.ThrottleConnections, "Connections"}
}

func opOfTelemetry() deviceOperation {
	return deviceOperation{fleet.OpTelemetry, core.ThrottleD2C, "DeviceToCloudSends"}
}

// Reads and updates of twins share their throttles with services.

func opOfTwinGet() deviceOperation {
	return deviceOperation{fleet.OpTwinGet, core.ThrottleTwinReads, core.OpGetTwin.ThrottleName()}
}

func opOfReportedPatch() deviceOperation {
	return deviceOperation{fleet.OpReportedPatch, core.ThrottleTwinUpdates, core.OpPatchTwin.ThrottleName()}
}

// passage is what the gate says of one operation of a device.
type passage struct {
	refusal *refuse.Error // the hub's answer in place of the operation
	cut     bool          // the connection ends before the operation
	after   fleet.Fault   // strikes when the operation is done
}

// pass is the gate before an operation has an effect: throttles, and the faults
// that strike before it.
func (l *mqttLink) pass(op deviceOperation) passage {
	var p passage
	started := time.Now()
	p.refusal = l.server.Paced(l.life, op.throttle, 1, op.word)
	if p.refusal == nil {
		if f, struck := l.server.Fault(op.fault, l.subject.Device); struck {
			p = l.strike(op, f)
		}
	}
	l.rested(started)
	// Who lost the connection meanwhile is not served: another device may have
	// the id by now.
	p.cut = p.cut || l.life.Err() != nil
	return p
}

func (l *mqttLink) strike(op deviceOperation, f fleet.Fault) passage {
	switch f.Kind {
	case fleet.FaultBadGateway, fleet.FaultResetAfter, fleet.FaultSlow:
		return passage{after: f}
	case fleet.FaultThrottled, fleet.FaultUnauthorized, fleet.FaultServerError, fleet.FaultUnavailable, fleet.FaultResetBefore, fleet.FaultEmptyPage:
	}
	if l.server.Clock.Wait(l.life, f.Latency) != nil || f.Kind == fleet.FaultResetBefore {
		return passage{cut: true}
	}
	return passage{refusal: core.FaultRefusal(f, op.word)}
}

// passed is the gate after an operation. It says whether the connection goes on.
func (l *mqttLink) passed(p passage) bool {
	if p.after.Kind == "" {
		return true
	}
	started := time.Now()
	waited := l.server.Clock.Wait(l.life, p.after.Latency)
	l.rested(started)
	return waited == nil && p.after.Kind != fleet.FaultResetAfter
}

// rested gives a device that was held back the time to go on: its keep-alive
// ran while nobody listened.
func (l *mqttLink) rested(since time.Time) {
	if time.Since(since) < time.Millisecond {
		return
	}
	keepAlive := time.Duration(l.client.State.Keepalive) * time.Second
	if keepAlive == 0 {
		keepAlive = ConnectDeadline
	}
	if err := connOf(l.client).Conn.SetDeadline(time.Now().Add(keepAlive + keepAlive/2)); err != nil {
		l.Close("its connection is gone")
	}
}

// welcome is the gate for a connection of a device that proved who it is.
func (h *deviceHook) welcome(cl *mqtt.Client, l *mqttLink) error {
	p := l.pass(opOfConnect())
	switch {
	case p.cut:
		return errNotAdmitted
	case p.refusal == nil:
	case p.refusal.Status == 401:
		return h.refuse(cl, &packets.ErrBadUsernameOrPassword, "a fault: "+p.refusal.Text)
	default:
		return h.refuse(cl, &packets.ErrServerUnavailable, p.refusal.Text)
	}
	if p.after.Kind == fleet.FaultSlow && !l.passed(p) {
		return errNotAdmitted
	}
	if p.after.Kind == fleet.FaultResetAfter {
		l.welcomed = p
	}
	return nil
}

// sendTelemetry takes a message for the cloud. MQTT 3.1.1 knows no answer that
// refuses a message, so that one which is refused ends the connection.
func (l *mqttLink) sendTelemetry(topic string, payload []byte) error {
	p := l.pass(opOfTelemetry())
	switch {
	case p.cut:
		return errFaulted
	case p.refusal != nil:
		return errTooMuch
	}
	l.telemetry(topic, payload)
	if !l.passed(p) {
		return errFaulted
	}
	return nil
}

// Package hubtest is the conformance suite that any hub must pass: what the
// runner relies on when it queries, reads, patches and calls.
//
// [Run] drives a hub through [Hub], the same four calls that package runner
// makes, so it tests a hub and the client in front of it together. It was
// written from the documentation and from the sources that the protocol notes
// name, not from the emulator; where these leave a point open, every known
// behaviour passes.
//
// testdata/contract holds exchanges, request and response, with where each is
// known from. They hold the client alone to the protocol.
package hubtest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"iothub-runner/internal/hub"
)

// A Hub is what the suite drives; it is the runner's idea of a hub. Every
// error that a method returns must be a [*hub.Error].
type Hub interface {
	Query(ctx context.Context, q hub.Query) (hub.Page, error)
	Twin(ctx context.Context, t hub.Target) (hub.Twin, error)
	PatchTwin(ctx context.Context, t hub.Target, p hub.Patch, ifMatch string) (hub.Twin, error)
	Invoke(ctx context.Context, t hub.Target, c hub.Call) (hub.Answer, error)
}

// A Harness is a hub under test and a hand on its devices. Its methods fail
// the test themselves when they cannot do what they are asked.
type Harness interface {
	// Hub returns a client of the hub that has these credentials.
	Hub(c Credentials) Hub
	// SetOnline connects or disconnects a device or a module. It returns when
	// the hub has taken notice.
	SetOnline(t hub.Target, online bool)
	// SetEnabled enables or disables a device.
	SetEnabled(deviceID string, enabled bool)
	// Delete removes a device from the registry.
	Delete(deviceID string)
	// Pass lets d of the hub's time go by. A hub whose clock nobody can move
	// does nothing: the suite then waits for the real time to pass.
	Pass(d time.Duration)
}

// Credentials say as whom a client speaks to the hub.
type Credentials int

const (
	// Owner may do everything.
	Owner Credentials = iota + 1
	// Service has the permission ServiceConnect alone.
	Service
	// RegistryReader has the permission RegistryRead alone.
	RegistryReader
	// WrongKey names a policy that exists, with a key that is not its own.
	WrongKey
)

// Device is a device, or a module of a device before it in the list, that a
// harness provides.
type Device struct {
	hub.Target

	Tags     json.RawMessage // an object; nil for none
	Desired  json.RawMessage // an object; nil for none
	Reported json.RawMessage // an object; nil for none
	Methods  []Method
	Offline  bool
}

// Method is a direct method that a device has, and what it does when called.
type Method struct {
	Name    string
	Does    Behaviour
	Status  int             // of Answers and Echoes
	Payload json.RawMessage // of Answers
}

// Behaviour is what a device does with a call.
type Behaviour int

const (
	// Answers means that the device answers with the method's status and payload.
	Answers Behaviour = iota + 1
	// Echoes means that the device answers with the method's status and the payload of
	// the call, null if it had none.
	Echoes
	// Hangs means that the device takes the call and never answers.
	Hangs
	// Disconnects means that the device takes the call and closes its connection.
	Disconnects
	// Garbles means that the device answers with something that is not JSON.
	Garbles
)

// Run holds the hubs that newHarness makes to the suite. Each case asks for a
// harness with its own devices; their ids differ from case to case, so that
// one hub may serve them all.
func Run(t *testing.T, newHarness func(t *testing.T, devices []Device) Harness) {
	t.Helper()
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, c.devices)
			c.run(&probe{t: t, Harness: h, hub: h.Hub(Owner)})
		})
	}
}

// testCase is one promise of a hub.
type testCase struct {
	name    string
	devices []Device
	run     func(p *probe)
}

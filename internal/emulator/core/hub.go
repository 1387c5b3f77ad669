// Package core is what all faces of the emulated hub share: devices, time, who is
// connected, throttles and faults.
package core

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/clock"
	"iothub-runner/internal/emulator/store"
)

// Hub is what all faces of the hub share: its devices, keys and time, who is
// connected, and how it refuses.
type Hub struct {
	Name  string // without a port
	Tier  Tier
	Log   *slog.Logger
	Keys  *access.Keyring
	Clock *clock.Clock
	Store *store.Store
	Links *Links

	Instance uint64 // random; distinguishes the tracking ids of two hubs
	requests atomic.Uint64

	Skewed    atomic.Int64 // see Server.SetSkew
	Chosen    Choices
	Throttles throttles

	FaultsOff atomic.Bool
	Faults    atomic.Pointer[FaultSet]          // whose faults strike; nil for none
	OpCalls   [store.CountedOfHub]atomic.Uint64 // calls seen, for faults

	// MailCount is how many messages wait for a device; set by who keeps them.
	MailCount func(store.Subject) int

	// life ends when the hub closes; every wait hangs on it.
	Life context.Context //nolint:containedctx // the server is the owner of this context
}

// LevelTrace is for what only somebody who debugs a client wants to see.
const LevelTrace = slog.LevelDebug

// AnswersTo says whether host, without port, is a name of this hub.
func (s *Hub) AnswersTo(host string) bool {
	return strings.EqualFold(host, s.Name) || strings.EqualFold(host, "localhost") || host == "127.0.0.1"
}

// TrackingID makes 32 hexadecimal digits that no other answer of this hub has.
func (s *Hub) TrackingID() string {
	n := s.requests.Add(1)
	return fmt.Sprintf("%016x%016x", s.Instance, mix(s.Instance+n))
}

// mix spreads the bits of n over all 64 (the finalizer of splitmix64).
func mix(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// Skew is how far the hub is ahead of the clock by which tokens are judged.
func (s *Hub) Skew() time.Duration { return time.Duration(s.Skewed.Load()) }

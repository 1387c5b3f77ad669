package store

import "sync/atomic"

// The operations whose calls are counted, so that a fault can hit the nth: the
// first of them, which address a device, for each device too, and so the last,
// which devices do themselves.
const (
	CountMethod = iota
	CountTwinRead
	CountTwinWrite
	CountRegistryRead
	CountRegistryWrite
	countedOfDevice // how many those are

	CountQuery = iota - 1
	CountJob
	CountJobPut
	CountJobGet
	CountJobCancel
	CountJobList
	CountStatistics
	CountConnect
	CountTelemetry
	CountTwinGet
	CountReportedPatch
	CountedOfHub
)

// Counter is where a device's calls of one kind are counted; nil for calls that
// address no device.
func (s *Store) Counter(d Device, count int) *atomic.Uint32 {
	switch {
	case d.Slot < 0:
	case count < countedOfDevice:
		return &s.Slot(d.Slot).calls[count]
	case count >= CountConnect:
		return &s.Slot(d.Slot).ofLine().calls[count-CountConnect]
	}
	return nil
}

// The values of slot.forced.
const (
	PresenceAsDescribed uint32 = iota
	PresenceOnline
	PresenceOffline
)

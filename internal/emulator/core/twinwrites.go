package core

import (
	"encoding/json"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
)

// CompleteWrite settles what the body leaves open: sections that are missing
// or null.
func (s *Hub) CompleteWrite(w *twindoc.Write) {
	for _, sec := range []*twindoc.SectionWrite{&w.Tags, &w.Desired} {
		if sec.Doc != nil {
			sec.Replace = w.Replace
			continue
		}
		if sec.Null && s.Does(knobNullSection, "clear") || w.Replace && !sec.Null && s.Does(knobPutMissingSection, "clear") {
			sec.Doc, sec.Replace = &twindoc.Node{Object: true}, true
		}
	}
	if w.Desired.Doc != nil {
		w.Text = w.Desired.Doc.AppendPatch(nil)
	}
}

// WriteTwin carries a write out and tells the device.
func (s *Hub) WriteTwin(deviceID, moduleID string, w twindoc.Write) (store.Subject, *refuse.Error) {
	now := s.Clock.Now()
	s.settleDue(deviceID, moduleID, now)
	if w.Desired.Doc != nil {
		// Until the device is told: notices leave in the order of their versions.
		order := s.Store.Order(deviceID)
		order.Lock()
		defer order.Unlock()
	}
	m, refusal := s.Store.UpdateTwin(deviceID, moduleID, now, func(m store.Subject, kept twindoc.Twin) (twindoc.Twin, *refuse.Error) {
		if w.Condition.Refuses(store.EtagText(kept.ETag)) {
			return kept, refuse.Precondition()
		}
		full := s.Store.Twin(m)
		next, refusal := w.Apply(kept, full, now)
		if refusal != nil {
			return kept, refusal
		}
		s.Store.Slot(m.Slot).Patches.Add(1) // before the state is kept, so that the count is in it
		if s.Does(knobNoopPatch, "keep") && twindoc.ChangesNothing(full, s.Store.Filled(m, next)) {
			return kept, nil
		}
		if w.Desired.Doc != nil {
			if w.Desired.Replace && s.Does(knobPutNotice, "nulls") {
				w.Text = w.Desired.WithNulls(full.Desired)
			}
			next.Pending = s.reaction(m, next, w, now)
		}
		return next, nil
	})
	if refusal != nil {
		return m, refusal
	}
	if w.Desired.Doc != nil {
		m = s.notify(m, w, now)
	}
	return m, nil
}

// notify tells a connected device of the write, and lets a simulated one that
// follows at once do so. It returns the subject as it is then.
func (s *Hub) notify(m store.Subject, w twindoc.Write, now time.Time) store.Subject {
	l := s.Connected(m)
	if l == nil {
		return m
	}
	l.Desired(DesiredNotice{Version: s.Store.Stored(m).Desired.Version, Patch: w.Text})
	if s.Store.Stored(m).Pending.IsDue(now) {
		if settled, refusal := s.settle(m, now); refusal == nil {
			return settled
		}
	}
	return m
}

// reaction is what a simulated device is going to report after a write of its
// desired properties. It follows from the file, so it is known beforehand and
// needs no timer: whoever looks at the twin when it is due finds it done.
func (s *Hub) reaction(m store.Subject, next twindoc.Twin, w twindoc.Write, now time.Time) *twindoc.Pending {
	if m.Slot >= s.Store.FleetLen || m.Mod != nil && m.Place < 0 || s.isReal(m) {
		return nil
	}
	f := s.Store.Fleet.Follow(m.Slot, next.Desired.Version)
	if f.Kind == fleet.FollowNever {
		return next.Pending
	}
	text := f.Reported(json.RawMessage(w.Text))
	if text == nil {
		return next.Pending
	}
	return next.Pending.And(twindoc.Report{Due: now.Add(f.Delay).UnixNano(), Patch: string(text)})
}

// settleDue lets a simulated device report what is due.
func (s *Hub) settleDue(deviceID, moduleID string, now time.Time) {
	m, refusal := s.Store.Look(deviceID, moduleID)
	if refusal == nil {
		s.Settled(m, now)
	}
}

// LookNow finds a subject after what was due has happened.
func (s *Hub) LookNow(deviceID, moduleID string) (store.Subject, *refuse.Error) {
	m, refusal := s.Store.Look(deviceID, moduleID)
	if refusal != nil {
		return m, refusal
	}
	return s.Settled(m, s.Clock.Now()), nil
}

// Settled returns the subject after its device reported what is due. A device
// that is offline reports when it is back.
func (s *Hub) Settled(m store.Subject, now time.Time) store.Subject {
	if !s.Store.Stored(m).Pending.IsDue(now) || s.Connected(m) == nil {
		return m
	}
	if next, refusal := s.settle(m, now); refusal == nil {
		return next
	}
	return m
}

func (s *Hub) settle(m store.Subject, now time.Time) (store.Subject, *refuse.Error) {
	return s.Store.UpdateTwin(m.ID, m.ModuleID(), now, func(m store.Subject, t twindoc.Twin) (twindoc.Twin, *refuse.Error) {
		if s.isReal(m) {
			t.Pending = nil // it speaks for itself
			return t, nil
		}
		reported := s.Store.Filled(m, t).Reported
		for t.Pending.IsDue(now) { // unless somebody else was quicker
			r := t.Pending.Reports[0]
			patch := twindoc.ReadNode("", gjson.Parse(r.Patch), &twindoc.StampReader{})
			// What the hub would not take of a device is lost.
			if next := reported.Patched(&patch, time.Unix(0, r.Due)); twindoc.TooLarge("", reported, next, twindoc.MaxPropsSize) == nil {
				reported, t.Reported = next, next
				t.Version++
			}
			t.Pending = t.Pending.Rest()
		}
		return t, nil
	})
}

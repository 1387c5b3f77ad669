package devices

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"iothub-runner/internal/emulator/store"
)

// Kept is one thing that happened to the messages for a device: its
// session changed, a message was queued, some are gone. A state file says by the
// first two what there is.
type Kept struct {
	Device  string        `json:"device"`
	Session *stateSession `json:"session,omitempty"`
	Post    *stateLetter  `json:"post,omitempty"`
	Gone    []uint64      `json:"gone,omitempty"` // numbers of messages
	Forget  bool          `json:"forget,omitempty"`
}

type stateSession struct {
	Keeps   bool     `json:"keeps,omitempty"`   // it listens to messages from the cloud
	QoS     byte     `json:"qos,omitempty"`     // of those
	Filters []string `json:"filters,omitempty"` // what else it listens to
}

// keep returns a session as the state file has it.
func (s filterSet) keep(qos byte) *stateSession {
	kept := &stateSession{Keeps: s[messagesFilter]}
	if kept.Keeps {
		kept.QoS = qos
	}
	for f, listens := range s {
		if listens && deviceFilter(f) != messagesFilter {
			kept.Filters = append(kept.Filters, deviceFilter(f).String())
		}
	}
	return kept
}

// filters returns the session that the state file has.
func (s *stateSession) filters() filterSet {
	var set filterSet
	for f := range set {
		set[f] = f != int(noFilter) && slices.Contains(s.Filters, deviceFilter(f).String())
	}
	set[messagesFilter] = s.Keeps
	return set
}

type stateLetter struct {
	Number     uint64            `json:"number"`
	Queued     time.Time         `json:"queued"`
	ID         string            `json:"id,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Body       []byte            `json:"body,omitempty"`
}

// noteLocked keeps what happened.
func (r *mailroom) noteLocked(m Kept) {
	if r.Changed != nil {
		r.Changed(&m)
	}
}

// Keep returns the letter as the state file has it.
func (l *letter) Keep() *stateLetter {
	return &stateLetter{Number: l.number, Queued: l.queued, ID: l.message.ID, Properties: l.message.Properties, Body: l.message.Body}
}

// Keep returns what there is to keep of all boxes.
func (r *mailroom) Keep() []*Kept {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kept []*Kept
	for _, id := range slices.Sorted(maps.Keys(r.boxes)) {
		box := r.boxes[id]
		if box.session != (filterSet{}) {
			kept = append(kept, &Kept{Device: id, Session: box.session.keep(box.qos)})
		}
		for _, l := range box.letters {
			kept = append(kept, &Kept{Device: id, Post: l.Keep()})
		}
	}
	return kept
}

// Restore takes in what was kept. A message that is there already is the same.
func (r *mailroom) Restore(m *Kept) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	device, module, isModule := strings.Cut(m.Device, "/")
	if !store.ValidID(device) || isModule && !store.ValidID(module) {
		return fmt.Errorf("messages for %q: not an id", m.Device)
	}
	box := r.boxLocked(m.Device)
	defer r.tidyLocked(m.Device)
	switch {
	case m.Session != nil:
		box.session, box.qos = m.Session.filters(), m.Session.QoS
	case m.Post != nil:
		r.numbers = max(r.numbers, m.Post.Number)
		known := slices.ContainsFunc(box.letters, func(l *letter) bool { return l.number == m.Post.Number })
		if !known {
			message := Message{ID: m.Post.ID, Properties: m.Post.Properties, Body: m.Post.Body}
			box.letters = append(box.letters, &letter{message: message, number: m.Post.Number, queued: m.Post.Queued})
		}
	case len(m.Gone) > 0:
		box.letters = slices.DeleteFunc(box.letters, func(l *letter) bool { return slices.Contains(m.Gone, l.number) })
	case m.Forget:
		delete(r.boxes, m.Device)
	default:
		return fmt.Errorf("messages for %q: %w", m.Device, errNothingHappened)
	}
	return nil
}

// KeepOnly drops the boxes of devices and modules that are no more.
func (r *mailroom) KeepOnly(known func(id string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.boxes, func(id string, _ *mailbox) bool { return !known(id) })
}

var errNothingHappened = errors.New("want a session, a message or the numbers of some that are gone")

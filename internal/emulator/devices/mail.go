package devices

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
)

// This file follows "Send cloud-to-device messages from an IoT hub".

// MaxMail is how many messages wait for one device.
const MaxMail = 50

// Message is one message from the cloud to a device.
type Message struct {
	ID         string
	Properties map[string]string
	Body       []byte
}

// mailroom keeps what was sent to devices until they acknowledge it.
type mailroom struct {
	mu    sync.Mutex
	boxes map[string]*mailbox // by the full id of a device or module; guarded by mu

	numbers uint64      // of the last letter; guarded by mu
	Changed func(*Kept) // is told of every change; nil unless the state is kept
}

// mailbox is the queue of one device, and what it or a module listens to in a
// session that outlives its connection.
type mailbox struct {
	session filterSet
	qos     byte // of the letters
	letters []*letter
	reader  *mqttLink // who gets the letters now; nil while nobody listens
	packet  uint16    // the last packet id that was used
}

// letter is a message under way. One that was sent with QoS 1 stays until the
// device acknowledges it; if the connection ends first it is sent again.
type letter struct {
	message Message
	number  uint64    // no other of this hub has it
	queued  time.Time // by the hub's clock
	packet  uint16    // 0 while it is not on its way
}

// Send queues a message for a device, as services do over AMQP. No more than
// 50 wait for a device. A tier's throttle may hold it back.
func (s *Front) Send(ctx context.Context, deviceID string, m Message) error {
	d, ok := s.Store.Find(deviceID)
	switch {
	case !ok:
		return refuse.DeviceNotFound(deviceID)
	case m.size() > MaxCloudMessage, len(m.topic(d.ID)) > maxTopic:
		return refuse.TooLarge(MaxCloudMessage)
	}
	if refusal := s.Paced(ctx, core.ThrottleC2D, 1, "CloudToDeviceSends"); refusal != nil {
		return refusal
	}
	if refusal := s.post(d, m); refusal != nil {
		return refusal
	}
	return nil
}

// post queues a message, unless the device was deleted meanwhile.
func (s *Front) post(d store.Device, m Message) *refuse.Error {
	r := &s.Mail
	r.mu.Lock()
	defer r.mu.Unlock()
	if now, ok := s.Store.Find(d.ID); !ok || now.Slot != d.Slot {
		return refuse.DeviceNotFound(d.ID)
	}
	box := r.boxLocked(d.ID)
	if len(box.letters) >= MaxMail {
		return &refuse.Error{Status: 403, Code: 403004, Name: "DeviceMaximumQueueDepthExceeded", Text: "The device's queue is full."}
	}
	r.numbers++
	l := &letter{message: m, number: r.numbers, queued: s.Clock.Now().UTC()}
	r.noteLocked(Kept{Device: d.ID, Post: l.Keep()})
	box.letters = append(box.letters, l)
	r.deliverLocked(d.ID, box)
	return nil
}

const (
	// MaxCloudMessage is the hub's limit of a message from the cloud, with its
	// properties.
	MaxCloudMessage = 64 << 10
	maxTopic        = 1<<16 - 1 // what MQTT can carry
)

func (m Message) size() int {
	size := len(m.ID) + len(m.Body)
	for name, value := range m.Properties {
		size += len(name) + len(value)
	}
	return size
}

// topic is where a message is sent. It tells the properties.
func (m Message) topic(deviceID string) string {
	return "devices/" + deviceID + "/messages/devicebound/" + m.bag(deviceID)
}

// Waiting is a message that waits for its device.
type Waiting struct {
	Message
	Number   uint64    // no other message of the hub has it
	Queued   time.Time // by the hub's clock
	UnderWay bool      // sent, and not acknowledged yet
}

// Queue returns the messages that wait for a device, oldest first.
func (s *Front) Queue(deviceID string) []Waiting {
	r := &s.Mail
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxes[deviceID]
	if box == nil {
		return nil
	}
	all := make([]Waiting, len(box.letters))
	for i, l := range box.letters {
		all[i] = Waiting{Message: l.message, Number: l.number, Queued: l.queued, UnderWay: l.packet != 0}
	}
	return all
}

func (r *mailroom) boxLocked(deviceID string) *mailbox {
	if r.boxes == nil {
		r.boxes = map[string]*mailbox{}
	}
	box := r.boxes[deviceID]
	if box == nil {
		box = &mailbox{}
		r.boxes[deviceID] = box
	}
	return box
}

// tidyLocked forgets a box that has nothing to keep.
func (r *mailroom) tidyLocked(deviceID string) {
	if box := r.boxes[deviceID]; box != nil && box.session == (filterSet{}) && box.reader == nil && len(box.letters) == 0 {
		delete(r.boxes, deviceID)
	}
}

// deliverLocked sends what is not on its way yet. The mailroom's lock keeps the
// order; sending does not block.
func (r *mailroom) deliverLocked(deviceID string, b *mailbox) {
	if b.reader == nil {
		return
	}
	for _, l := range b.letters {
		if l.packet != 0 {
			continue
		}
		b.packet++
		if b.packet == 0 {
			b.packet = 1
		}
		l.packet = b.packet
		id := l.packet
		if b.qos == 0 {
			id = 0
		}
		if !b.reader.send(l.message.topic(deviceID), l.message.Body, b.qos, id) {
			return
		}
	}
	if b.qos == 0 { // sent is done
		r.clearLocked(deviceID, b)
	}
}

// clearLocked throws a box's messages away.
func (r *mailroom) clearLocked(deviceID string, b *mailbox) {
	if len(b.letters) == 0 {
		return
	}
	var gone []uint64
	for _, l := range b.letters {
		gone = append(gone, l.number)
	}
	r.noteLocked(Kept{Device: deviceID, Gone: gone})
	b.letters = nil
}

// keepLocked says what of a session outlives its connection.
func (r *mailroom) keepLocked(id string, b *mailbox, session filterSet, qos byte) {
	if b.session != session || b.qos != qos {
		r.noteLocked(Kept{Device: id, Session: session.keep(qos)})
	}
	b.session, b.qos = session, qos
}

// bag is how the topic tells of a message.
func (m Message) bag(deviceID string) string {
	names := []string{"$.to"}
	values := []string{"/devices/" + deviceID + "/messages/devicebound"}
	if m.ID != "" {
		names, values = append(names, "$.mid"), append(values, m.ID)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Properties)) {
		names, values = append(names, name), append(values, m.Properties[name])
	}
	return propertyBag(names, values)
}

// resume returns what a session from before goes on with: what it listens to,
// and the QoS of its letters. A clean session ends the one before.
func (r *mailroom) resume(id string, clean bool) (filterSet, byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxes[id]
	if box == nil {
		return filterSet{}, 0
	}
	if clean {
		r.keepLocked(id, box, filterSet{}, 0)
		r.tidyLocked(id)
		return filterSet{}, 0
	}
	return box.session, box.qos
}

// listen keeps a subscription in a session that outlives its connection, and
// makes a link that asks for letters the reader of its device's box.
func (r *mailroom) listen(l *mqttLink, f deviceFilter, qos byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := l.subject.FullID()
	box := r.boxLocked(id)
	if f != messagesFilter {
		qos = box.qos
	} else if box.reader != l {
		box.unsent()
		box.reader = l
	}
	session := box.session
	session[f] = !l.clean
	r.keepLocked(id, box, session, qos)
	r.deliverLocked(id, box)
	r.tidyLocked(id)
}

// unsent makes what no reader acknowledged be sent again.
func (b *mailbox) unsent() {
	for _, l := range b.letters {
		l.packet = 0
	}
}

// ignore ends a subscription.
func (r *mailroom) ignore(l *mqttLink, f deviceFilter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := l.subject.FullID()
	box := r.boxes[id]
	if box == nil {
		return
	}
	if f == messagesFilter && box.reader == l {
		box.reader = nil
	}
	session := box.session
	session[f] = false
	r.keepLocked(id, box, session, box.qos)
	r.tidyLocked(id)
}

// leave follows the end of a connection. The subscription stays if the session
// does.
func (r *mailroom) leave(l *mqttLink) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if box := r.boxes[l.subject.ID]; box != nil && box.reader == l { // modules get no letters
		box.reader = nil
		r.tidyLocked(l.subject.ID)
	}
}

// acknowledge takes a letter out that its device has.
func (r *mailroom) acknowledge(l *mqttLink, packet uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxes[l.subject.ID]
	if box == nil || box.reader != l || packet == 0 {
		return
	}
	for i, waiting := range box.letters {
		if waiting.packet == packet {
			r.noteLocked(Kept{Device: l.subject.ID, Gone: []uint64{waiting.number}})
			box.letters = slices.Delete(box.letters, i, i+1)
			return
		}
	}
}

// MailCount returns how many messages wait for a subject.
func (s *Front) MailCount(m store.Subject) int {
	if m.Mod != nil {
		return 0
	}
	return s.Mail.Count(m.ID)
}

// Count returns how many messages wait for a device.
func (r *mailroom) Count(deviceID string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if box := r.boxes[deviceID]; box != nil {
		return len(box.letters)
	}
	return 0
}

// Purge throws a device's messages away and returns how many they were.
func (r *mailroom) Purge(deviceID string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxes[deviceID]
	if box == nil {
		return 0
	}
	n := len(box.letters)
	r.clearLocked(deviceID, box)
	r.tidyLocked(deviceID)
	return n
}

// Empty throws everybody's messages away. Subscriptions stay.
func (r *mailroom) Empty() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, box := range r.boxes {
		r.clearLocked(id, box)
		r.tidyLocked(id)
	}
}

// Forget follows the deletion of a device or a module. Its connection ends as
// well, and those of a device's modules.
func (r *mailroom) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for box := range r.boxes {
		if box == id || strings.HasPrefix(box, id+"/") {
			r.noteLocked(Kept{Device: box, Forget: true})
			delete(r.boxes, box)
		}
	}
}

// Size is how many devices and modules have a box.
func (r *mailroom) Size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.boxes)
}

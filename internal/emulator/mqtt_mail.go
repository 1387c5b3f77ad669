package emulator

import (
	"maps"
	"slices"
	"sync"
)

// This file follows "Send cloud-to-device messages from an IoT hub".

// maxMail is how many messages wait for one device.
const maxMail = 50

// Message is one message from the cloud to a device.
type Message struct {
	ID         string
	Properties map[string]string
	Body       []byte
}

// mailroom keeps what was sent to devices until they acknowledge it.
type mailroom struct {
	mu    sync.Mutex
	boxes map[string]*mailbox // by device id; guarded by mu
}

// mailbox is the queue of one device.
type mailbox struct {
	keeps   bool // the device subscribed in a session that outlives its connection
	qos     byte
	letters []*letter
	reader  *mqttLink // who gets the letters now; nil while nobody listens
	packet  uint16    // the last packet id that was used
}

// letter is a message under way. One that was sent with QoS 1 stays until the
// device acknowledges it; if the connection ends first it is sent again.
type letter struct {
	message Message
	packet  uint16 // 0 while it is not on its way
}

// Send queues a message for a device, as services do over AMQP. No more than
// 50 wait for a device.
func (s *Server) Send(deviceID string, m Message) error {
	d, ok := s.store.find(deviceID)
	switch {
	case !ok:
		return errDeviceNotFound(deviceID)
	case len(m.Body) > maxCloudMessage:
		return errTooLarge(maxCloudMessage)
	case !s.front.mail.post(d.id, m):
		return &apiError{status: 403, code: 403004, name: "DeviceMaximumQueueDepthExceeded", text: "The device's queue is full."}
	}
	return nil
}

// maxCloudMessage is the hub's limit of a message from the cloud.
const maxCloudMessage = 64 << 10

func (r *mailroom) post(deviceID string, m Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxLocked(deviceID)
	if len(box.letters) >= maxMail {
		return false
	}
	box.letters = append(box.letters, &letter{message: m})
	box.deliver()
	return true
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
	if box := r.boxes[deviceID]; box != nil && !box.keeps && box.reader == nil && len(box.letters) == 0 {
		delete(r.boxes, deviceID)
	}
}

// deliver sends what is not on its way yet. The mailroom's lock is held, which
// keeps the order; sending does not block.
func (b *mailbox) deliver() {
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
		if !b.reader.send(b.reader.subject.base()+"messages/devicebound/"+l.message.bag(b.reader.subject.id), l.message.Body, b.qos, id) {
			return
		}
	}
	if b.qos == 0 { // sent is done
		b.letters = nil
	}
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

// resume says whether a device's session from before goes on, and with which
// QoS it listens then. A clean session ends the one before.
func (r *mailroom) resume(deviceID string, clean bool) (byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxes[deviceID]
	if box == nil || !box.keeps {
		return 0, false
	}
	if clean {
		box.keeps = false
		r.tidyLocked(deviceID)
		return 0, false
	}
	return box.qos, true
}

// listen makes a link the reader of its device's box.
func (r *mailroom) listen(l *mqttLink, qos byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxLocked(l.subject.id)
	if box.reader != l {
		box.unsent()
	}
	box.reader, box.qos, box.keeps = l, qos, !l.clean
	box.deliver()
}

// unsent makes what no reader acknowledged be sent again.
func (b *mailbox) unsent() {
	for _, l := range b.letters {
		l.packet = 0
	}
}

// ignore ends a subscription.
func (r *mailroom) ignore(l *mqttLink) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if box := r.boxes[l.subject.id]; box != nil && box.reader == l {
		box.reader, box.keeps = nil, false
		r.tidyLocked(l.subject.id)
	}
}

// leave follows the end of a connection. The subscription stays if the session
// does.
func (r *mailroom) leave(l *mqttLink) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if box := r.boxes[l.subject.id]; box != nil && box.reader == l {
		box.reader = nil
		r.tidyLocked(l.subject.id)
	}
}

// acknowledge takes a letter out that its device has.
func (r *mailroom) acknowledge(l *mqttLink, packet uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxes[l.subject.id]
	if box == nil || box.reader != l || packet == 0 {
		return
	}
	box.letters = slices.DeleteFunc(box.letters, func(l *letter) bool { return l.packet == packet })
}

// mailCount returns how many messages wait for a subject.
func (s *Server) mailCount(m subject) int {
	if m.mod != nil {
		return 0
	}
	return s.front.mail.count(m.id)
}

// count returns how many messages wait for a device.
func (r *mailroom) count(deviceID string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if box := r.boxes[deviceID]; box != nil {
		return len(box.letters)
	}
	return 0
}

// purge throws a device's messages away and returns how many they were.
func (r *mailroom) purge(deviceID string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	box := r.boxes[deviceID]
	if box == nil {
		return 0
	}
	n := len(box.letters)
	box.letters = nil
	r.tidyLocked(deviceID)
	return n
}

// empty throws everybody's messages away. Subscriptions stay.
func (r *mailroom) empty() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, box := range r.boxes {
		box.letters = nil
		r.tidyLocked(id)
	}
}

// forget follows the deletion of a device. Its connection ends as well.
func (r *mailroom) forget(deviceID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.boxes, deviceID)
}

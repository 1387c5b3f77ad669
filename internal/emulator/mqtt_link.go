package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// mqttLink is a device that is connected over MQTT.
//
// The goroutine that serves the connection reads from the device; a second one
// writes to it. Everybody else only puts packets into the queue between, so a
// device that does not read blocks nobody: when its queue is full it is cut off.
type mqttLink struct {
	front   *front
	server  *Server
	client  *mqtt.Client
	subject subject // as it was at CONNECT; twins are looked up anew
	key     linkKey
	expires time.Time
	// generation is the one of the identity that was admitted.
	generation string
	number     uint64
	will       *will
	clean      bool // the session ends with the connection
	resumed    bool // a session from before goes on
	keptQoS    byte // of the subscription that goes on with it

	welcomed passage // what the gate said of the connection

	life context.Context //nolint:containedctx // the link owns it: what holds its device back hangs on it
	stop context.CancelFunc

	takesMethods atomic.Bool
	out          outbox
	done         chan struct{} // closed when the connection has ended
	running      sync.WaitGroup
	turn         sync.Mutex // held while a SUBACK is due, or a queued packet is written
	expiry       *time.Timer

	mu    sync.Mutex
	subs  [inputsFilter + 1]bool         // guarded by mu
	calls map[string]chan<- methodAnswer // by request id; guarded by mu
	rid   uint64                         // guarded by mu
}

// will is what a device wants to be said of it when it leaves without a goodbye.
type will struct {
	topic   string
	payload []byte
	qos     byte
}

func newMQTTLink(f *front, cl *mqtt.Client, v visitor) *mqttLink {
	l := &mqttLink{
		front: f, server: f.server, client: cl, subject: v.subject,
		key: v.subject.key(), expires: v.expires, generation: f.server.identityOf(v.subject).generation,
		number: f.connections.Add(1),
		out:    outbox{filled: make(chan struct{}, 1)}, done: make(chan struct{}),
		calls: map[string]chan<- methodAnswer{},
	}
	l.life, l.stop = context.WithCancel(f.life)
	return l
}

// attach makes the device connected, and ends a connection that it had before.
// It comes before the CONNACK: who has that may connect again at once, and the
// later connection must not be the one that ends.
func (l *mqttLink) attach() { l.server.attach(l.key, l) }

// begin follows the CONNACK: everything the hub has for the device goes here.
func (l *mqttLink) begin() {
	l.running.Go(l.write)
	if !l.expires.IsZero() {
		l.expiry = time.AfterFunc(time.Until(l.expires)-l.server.skew(), func() { l.close("its token expired") })
	}
	// Between the check of its key and now the device may have been disabled,
	// or deleted and registered anew.
	m, refusal := l.server.store.look(l.subject.id, l.subject.moduleID())
	if refusal != nil || disabled(m.rec) == 1 || l.server.identityOf(m).generation != l.generation {
		l.close("the device was disabled or deleted")
	}
	l.server.log.Debug("device connected", "device", l.subject.fullID())
	if l.resumed {
		l.front.mail.listen(l, l.keptQoS)
	}
	if !l.passed(l.welcomed) {
		l.close("a fault ends the connection")
	}
}

// end follows the end of the connection. It returns when nothing of the link
// runs any more.
func (l *mqttLink) end() {
	if l.expiry != nil {
		l.expiry.Stop()
	}
	l.server.detach(l.key, l)
	close(l.done)
	l.stop()
	l.running.Wait()
	l.front.broker().UnsubscribeClient(l.client)
	l.front.broker().Clients.Delete(l.client.ID)
	l.front.mail.leave(l)
	reason := l.client.StopCause()
	if errors.Is(reason, net.ErrClosed) {
		reason = errors.New("the hub stops") // every other reason that the hub has is set as it closes the connection
	}
	l.server.log.Debug("device disconnected", "device", l.subject.fullID(), "reason", reason)
}

// write sends what waits in the queue.
func (l *mqttLink) write() {
	for {
		select {
		case <-l.out.filled:
		case <-l.done:
			return
		}
		for pk, ok := l.out.next(); ok; pk, ok = l.out.next() {
			l.turn.Lock()
			err := l.client.WritePacket(pk)
			l.turn.Unlock()
			if err != nil {
				l.client.Stop(err)
				return
			}
		}
	}
}

// outbox holds what a device has not been sent yet. Most are empty most of the
// time, and there may be thousands: an empty one takes no room.
type outbox struct {
	filled chan struct{} // has a value when there may be something

	mu      sync.Mutex
	packets []packets.Packet // guarded by mu
}

// put says whether there was room.
func (o *outbox) put(pk packets.Packet) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.packets) >= maxPendingToSend {
		return false
	}
	o.packets = append(o.packets, pk)
	select {
	case o.filled <- struct{}{}:
	default: // the writer has been told and has not looked yet
	}
	return true
}

func (o *outbox) next() (packets.Packet, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.packets) == 0 {
		o.packets = nil
		return packets.Packet{}, false
	}
	pk := o.packets[0]
	o.packets[0] = packets.Packet{}
	o.packets = o.packets[1:]
	return pk, true
}

// send queues a publication. It says whether there was room.
func (l *mqttLink) send(topic string, payload []byte, qos byte, id uint16) bool {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos},
		TopicName:   topic, Payload: payload, PacketID: id,
	}
	if l.out.put(pk) {
		return true
	}
	l.close("it does not read what it is sent")
	return false
}

// close is part of link.
func (l *mqttLink) close(reason string) {
	l.client.Stop(errors.New(reason))
	l.stop()
}

// ready is part of link.
func (l *mqttLink) ready() bool { return l.takesMethods.Load() }

// desired is part of link. The notice is lost if the device did not ask for it:
// it will read its twin when it does.
func (l *mqttLink) desired(n desiredNotice) {
	if !l.subscribed(desiredFilter) {
		return
	}
	version := strconv.FormatInt(n.version, 10)
	body := append([]byte(nil), n.patch[:len(n.patch)-1]...)
	if len(body) > 1 {
		body = append(body, ',')
	}
	body = append(body, `"$version":`+version+"}"...)
	l.send(desiredTopic+"?$version="+version, body, 0, 0)
}

// invoke is part of link. The call counts as executed once it is on its way.
func (l *mqttLink) invoke(ctx context.Context, c methodCall) (methodAnswer, error) {
	rid, answers := l.expect()
	defer l.forget(rid)
	payload := c.payload
	if payload == nil {
		payload = []byte("null")
	}
	limit := l.server.clock.after(c.timeout)
	defer l.server.clock.stop(limit)
	if !l.send(callTopic(c.name, rid), payload, 0, 0) {
		return methodAnswer{}, errLinkLost
	}
	l.server.store.countCall(l.key.slot)
	select {
	case a := <-answers:
		if a.payload != nil && !validJSON(a.payload) {
			return methodAnswer{}, errBadAnswer
		}
		return a, nil
	case <-limit.woken:
		return methodAnswer{}, errNoAnswer
	case <-l.done:
		return methodAnswer{}, errLinkLost
	case <-ctx.Done():
		return methodAnswer{}, ctx.Err()
	}
}

// expect makes a request id, and room for the one answer to it.
func (l *mqttLink) expect() (string, <-chan methodAnswer) {
	answers := make(chan methodAnswer, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rid++
	rid := strconv.FormatUint(l.rid, 16)
	l.calls[rid] = answers
	return rid, answers
}

func (l *mqttLink) forget(rid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, rid)
}

// receive takes a publication of the device. The connection ends with its error.
func (l *mqttLink) receive(topic string, payload []byte) error {
	l.heard()
	t := l.topic(topic)
	switch t.purpose {
	case telemetryPurpose:
		return l.sendTelemetry(topic, payload)
	case getTwinPurpose:
		return l.twinOperation(opOfTwinGet(), t, l.getTwin)
	case reportPurpose:
		return l.twinOperation(opOfReportedPatch(), t, func() (twinAnswer, *apiError) { return l.report(t, payload) })
	case replyPurpose:
		return l.reply(t, payload)
	case noTopic:
		return errUnknownTopic
	}
	return nil
}

// heard notes that the device is active.
func (l *mqttLink) heard() {
	if l.life.Err() == nil { // else its slot may be another's by now
		l.server.store.slot(l.key.slot).hear(l.key.module, l.server.clock.now())
	}
}

// reply hands a method's answer to who waits for it; late ones find nobody. A
// device that answers what is not JSON gets its caller an error, and loses its
// connection.
func (l *mqttLink) reply(t deviceTopic, payload []byte) error {
	a := methodAnswer{status: t.status}
	if len(payload) > 0 {
		a.payload = payload
	}
	l.mu.Lock()
	answers := l.calls[t.rid]
	delete(l.calls, t.rid)
	l.mu.Unlock()
	if answers != nil {
		answers <- a
	}
	if a.payload != nil && !json.Valid(a.payload) {
		return errBadReply
	}
	return nil
}

// telemetry accepts a message for the cloud. Nobody reads it but people with -v.
func (l *mqttLink) telemetry(topic string, payload []byte) {
	l.server.store.slot(l.key.slot).messages.Add(1)
	l.server.heard.add(heardMessage{
		device: l.subject.id, module: l.subject.moduleID(), at: l.server.clock.now(),
		bag: strings.TrimPrefix(strings.TrimPrefix(topic, l.subject.base()+"messages/events"), "/"), body: bytes.Clone(payload),
	})
	const most = 1 << 10
	l.server.log.Debug("telemetry", "device", l.subject.fullID(), "topic", topic, "bytes", len(payload), "body", string(payload[:min(len(payload), most)]))
}

// subscribe follows a SUBACK.
func (l *mqttLink) subscribe(f deviceFilter, qos byte) {
	if f == noFilter {
		return
	}
	l.mu.Lock()
	l.subs[f] = true
	l.mu.Unlock()
	switch f {
	case methodsFilter:
		l.takesMethods.Store(true)
		l.server.readied(l.key)
	case messagesFilter:
		l.front.mail.listen(l, qos)
	case noFilter, twinAnswersFilter, desiredFilter, inputsFilter:
	}
}

func (l *mqttLink) unsubscribe(f deviceFilter) {
	l.mu.Lock()
	l.subs[f] = false
	l.mu.Unlock()
	switch f {
	case methodsFilter:
		l.takesMethods.Store(false)
	case messagesFilter:
		l.front.mail.ignore(l)
	case noFilter, twinAnswersFilter, desiredFilter, inputsFilter:
	}
}

func (l *mqttLink) subscribed(f deviceFilter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subs[f]
}

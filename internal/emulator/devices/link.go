package devices

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

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
)

// mqttLink is a device that is connected over MQTT.
//
// The goroutine that serves the connection reads from the device; a second one
// writes to it. Everybody else only puts packets into the queue between, so a
// device that does not read blocks nobody: when its queue is full it is cut off.
type mqttLink struct {
	front   *Front
	server  *Front
	client  *mqtt.Client
	subject store.Subject // as it was at CONNECT; twins are looked up anew
	key     core.LinkKey
	expires time.Time
	// generation is the one of the identity that was admitted.
	generation string
	number     uint64
	will       *will
	clean      bool      // the session ends with the connection
	session    filterSet // what it goes on with from before
	sessionQoS byte      // of its messages from the cloud

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
	subs  filterSet                           // guarded by mu
	calls map[string]chan<- core.MethodAnswer // by request id; guarded by mu
	rid   uint64                              // guarded by mu
}

// will is what a device wants to be said of it when it leaves without a goodbye.
type will struct {
	topic   string
	payload []byte
	qos     byte
}

func newMQTTLink(f *Front, cl *mqtt.Client, v visitor) *mqttLink {
	l := &mqttLink{
		front: f, server: f, client: cl, subject: v.subject,
		key: core.LinkKeyOf(v.subject), expires: v.expires, generation: f.IdentityOf(v.subject).Generation,
		number: f.connections.Add(1),
		out:    outbox{filled: make(chan struct{}, 1)}, done: make(chan struct{}),
		calls: map[string]chan<- core.MethodAnswer{},
	}
	l.life, l.stop = context.WithCancel(f.held)
	return l
}

// attach makes the device connected, and ends a connection that it had before.
// It comes before the CONNACK: who has that may connect again at once, and the
// later connection must not be the one that ends. Who is told of a session that
// goes on may be called at once as well; what is sent waits for begin.
func (l *mqttLink) attach() {
	l.server.Attach(l.key, l)
	for f, listens := range l.session {
		if listens {
			l.subscribe(deviceFilter(f), l.sessionQoS)
		}
	}
}

// begin follows the CONNACK: everything the hub has for the device goes here.
func (l *mqttLink) begin() {
	l.running.Go(l.write)
	if !l.expires.IsZero() {
		l.expiry = time.AfterFunc(time.Until(l.expires)-l.server.Skew(), func() { l.Close("its token expired") })
	}
	// Between the check of its key and now the device may have been disabled,
	// or deleted and registered anew.
	m, refusal := l.server.Store.Look(l.subject.ID, l.subject.ModuleID())
	if refusal != nil || store.Disabled(m.Rec) == 1 || l.server.IdentityOf(m).Generation != l.generation {
		l.Close("the device was disabled or deleted")
	}
	l.server.Log.Debug("device connected", "device", l.subject.FullID())
	if !l.passed(l.welcomed) {
		l.Close("a fault ends the connection")
	}
}

// end follows the end of the connection. It returns when nothing of the link
// runs any more.
func (l *mqttLink) end() {
	if l.expiry != nil {
		l.expiry.Stop()
	}
	l.server.Detach(l.key, l)
	close(l.done)
	l.stop()
	l.running.Wait()
	l.front.Broker().UnsubscribeClient(l.client)
	l.front.Broker().Clients.Delete(l.client.ID)
	l.front.Mail.leave(l)
	reason := l.client.StopCause()
	if errors.Is(reason, net.ErrClosed) {
		reason = errors.New("the hub stops") // every other reason that the hub has is set as it closes the connection
	}
	l.server.Log.Debug("device disconnected", "device", l.subject.FullID(), "reason", reason)
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
	if len(o.packets) >= MaxPendingToSend {
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
	l.Close("it does not read what it is sent")
	return false
}

// Close is part of link.
func (l *mqttLink) Close(reason string) {
	l.client.Stop(errors.New(reason))
	l.stop()
}

// Ready is part of link.
func (l *mqttLink) Ready() bool { return l.takesMethods.Load() }

// Desired is part of link. The notice is lost if the device did not ask for it:
// it will read its twin when it does.
func (l *mqttLink) Desired(n core.DesiredNotice) {
	if !l.subscribed(desiredFilter) {
		return
	}
	version := strconv.FormatInt(n.Version, 10)
	body := append([]byte(nil), n.Patch[:len(n.Patch)-1]...)
	if len(body) > 1 {
		body = append(body, ',')
	}
	body = append(body, `"$version":`+version+"}"...)
	l.send(DesiredTopic+"?$version="+version, body, 0, 0)
}

// Invoke is part of link. The call counts as executed once it is on its way.
func (l *mqttLink) Invoke(ctx context.Context, c core.MethodCall) (core.MethodAnswer, error) {
	rid, answers := l.expect()
	defer l.Forget(rid)
	payload := c.Payload
	if payload == nil {
		payload = []byte("null")
	}
	limit := l.server.Clock.After(c.Timeout)
	defer l.server.Clock.Stop(limit)
	if !l.send(callTopic(c.Name, rid), payload, 0, 0) {
		return core.MethodAnswer{}, core.ErrLinkLost
	}
	l.server.Store.CountCall(l.key.Slot)
	select {
	case a := <-answers:
		if a.Payload != nil && !core.ValidJSON(a.Payload) {
			return core.MethodAnswer{}, core.ErrBadAnswer
		}
		return a, nil
	case <-limit.Woken:
		return core.MethodAnswer{}, core.ErrNoAnswer
	case <-l.done:
		return core.MethodAnswer{}, core.ErrLinkLost
	case <-ctx.Done():
		return core.MethodAnswer{}, ctx.Err()
	}
}

// expect makes a request id, and room for the one answer to it.
func (l *mqttLink) expect() (string, <-chan core.MethodAnswer) {
	answers := make(chan core.MethodAnswer, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rid++
	rid := strconv.FormatUint(l.rid, 16)
	l.calls[rid] = answers
	return rid, answers
}

// Forget lets go of the messages of a device that is gone.
func (l *mqttLink) Forget(rid string) {
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
		return l.twinOperation(opOfReportedPatch(), t, func() (twinAnswer, *refuse.Error) { return l.report(t, payload) })
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
		l.server.Store.Slot(l.key.Slot).Hear(l.key.Module, l.server.Clock.Now())
	}
}

// reply hands a method's answer to who waits for it; late ones find nobody. A
// device that answers what is not JSON gets its caller an error, and loses its
// connection.
func (l *mqttLink) reply(t deviceTopic, payload []byte) error {
	a := core.MethodAnswer{Status: t.status}
	if len(payload) > 0 {
		a.Payload = payload
	}
	l.mu.Lock()
	answers := l.calls[t.rid]
	delete(l.calls, t.rid)
	l.mu.Unlock()
	if answers != nil {
		answers <- a
	}
	if a.Payload != nil && !json.Valid(a.Payload) {
		return errBadReply
	}
	return nil
}

// telemetry accepts a message for the cloud. Nobody reads it but people with -v.
func (l *mqttLink) telemetry(topic string, payload []byte) {
	l.server.Store.Slot(l.key.Slot).Messages.Add(1)
	l.server.Heard.Add(HeardMessage{
		Device: l.subject.ID, Module: l.subject.ModuleID(), At: l.server.Clock.Now(),
		Bag: strings.TrimPrefix(strings.TrimPrefix(topic, topicsOf(l.subject)+"messages/events"), "/"), Body: bytes.Clone(payload),
	})
	const most = 1 << 10
	l.server.Log.Debug("telemetry", "device", l.subject.FullID(), "topic", topic, "bytes", len(payload), "body", string(payload[:min(len(payload), most)]))
}

// subscribe follows a SUBACK.
func (l *mqttLink) subscribe(f deviceFilter, qos byte) {
	if f == noFilter {
		return
	}
	l.mu.Lock()
	l.subs[f] = true
	l.mu.Unlock()
	l.front.Mail.listen(l, f, qos)
	if f == methodsFilter {
		l.takesMethods.Store(true)
		l.server.Readied(l.key)
	}
}

func (l *mqttLink) unsubscribe(f deviceFilter) {
	l.mu.Lock()
	l.subs[f] = false
	l.mu.Unlock()
	l.front.Mail.ignore(l, f)
	if f == methodsFilter {
		l.takesMethods.Store(false)
	}
}

func (l *mqttLink) subscribed(f deviceFilter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subs[f]
}

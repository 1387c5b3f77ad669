package devices

import (
	"errors"
	"fmt"
	"strconv"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// deviceHook is what the broker asks of the hub.
type deviceHook struct {
	mqtt.HookBase
	front  *Front
	broker *mqtt.Server
}

// Why the hub ends a connection. The broker goes on unless an error says that
// the packet is rejected.
var (
	errNotAdmitted  = fmt.Errorf("the device was not admitted: %w", packets.ErrRejectPacket)
	errQoS2         = fmt.Errorf("publications with QoS 2 are not supported: %w", packets.ErrRejectPacket)
	errUnknownTopic = fmt.Errorf("publication to a topic that the hub does not have: %w", packets.ErrRejectPacket)
	errOversized    = fmt.Errorf("the message is larger than 256 KB: %w", packets.ErrRejectPacket)
	errBadGreeting  = errors.New("the first packet is no CONNECT, or too large for one")
	errBadReply     = errors.New("the answer to a method is not JSON")
	errFaulted      = errors.New("a fault ends the connection")
	errTooMuch      = errors.New("the device sends more than the tier allows")
)

// ID names the hook in the broker.
func (h *deviceHook) ID() string { return "hub" }

// Provides lists the events that the hub handles.
func (h *deviceHook) Provides(event byte) bool {
	switch event {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnDisconnect,
		mqtt.OnACLCheck, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed, mqtt.OnPublish,
		mqtt.OnSubscribed, mqtt.OnUnsubscribed:
		return true
	}
	return false
}

func connOf(cl *mqtt.Client) *deviceConn {
	dc, ok := cl.Net.Conn.(*deviceConn)
	if !ok {
		panic("emulator: a client of the broker whose connection is not the hub's")
	}
	return dc
}

// OnConnect admits a device. A refusal is a CONNACK with a code: clients take
// a dropped connection for trouble with the network, and try again for ever.
func (h *deviceHook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	s, dc := h.front, connOf(cl)
	v, code, why := s.admit(caller{
		clientID: pk.Connect.ClientIdentifier, user: string(pk.Connect.Username), password: string(pk.Connect.Password), cert: dc.certificate(),
	})
	if code != nil {
		return h.refuse(cl, code, why)
	}
	link := newMQTTLink(h.front, cl, v)
	if w := dc.will; w != nil {
		if w.qos > 1 || !link.isTelemetry(w.topic) {
			return h.refuse(cl, &packets.ErrBadUsernameOrPassword, "the will is not a message that the device may send")
		}
		link.will = w
	}
	if err := h.welcome(cl, link); err != nil {
		return err
	}
	link.clean = pk.Connect.Clean
	link.session, link.sessionQoS = h.front.Mail.resume(link.subject.FullID(), link.clean)
	// The hub keeps sessions and wills itself. To the broker every connection
	// is a client of its own that leaves nothing behind.
	cl.ID = strconv.FormatUint(link.number, 10)
	cl.Properties.Clean = true
	if cl.State.Keepalive == 0 || cl.State.Keepalive > maxKeepAlive {
		cl.State.Keepalive = maxKeepAlive
	}
	dc.link = link
	return nil
}

func (h *deviceHook) refuse(cl *mqtt.Client, code *packets.Code, why string) error {
	h.front.Log.Debug("device refused", "clientId", cl.ID, "user", string(cl.Properties.Username), "reason", why)
	if err := h.broker.SendConnack(cl, *code, false, nil); err != nil {
		return err
	}
	return errNotAdmitted
}

// OnConnectAuthenticate is asked after OnConnect, which has looked already.
func (h *deviceHook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnSessionEstablish comes before the CONNACK: from here on the device is connected.
func (h *deviceHook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) { connOf(cl).link.attach() }

// OnSessionEstablished follows the CONNACK: from here on the hub sends.
func (h *deviceHook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) { connOf(cl).link.begin() }

// OnDisconnect sends the will of a device that left without a goodbye.
func (h *deviceHook) OnDisconnect(cl *mqtt.Client, err error, _ bool) {
	l := connOf(cl).link
	if err != nil && l.will != nil {
		l.telemetry(l.will.topic, l.will.payload)
	}
}

// OnACLCheck allows the documented filters only. Publications are looked at
// when they come.
func (h *deviceHook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	return write || connOf(cl).link.filter(topic) != noFilter
}

// OnPacketRead ends the connection of a device that breaks a rule which the
// broker would bend.
func (h *deviceHook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Connect && connOf(cl).link == nil {
		if len(pk.Connect.Password) == 0 {
			pk.Connect.PasswordFlag = false // devices with a certificate have none; the broker dislikes an empty one
		}
		connOf(cl).takeWill(&pk.Connect)
		return pk, h.glance(cl, pk)
	}
	if pk.FixedHeader.Type != packets.Publish || connOf(cl).link == nil {
		return pk, nil
	}
	switch {
	case pk.FixedHeader.Qos > 1:
		return pk, errQoS2
	case len(pk.Payload) > MaxDeviceMessage:
		return pk, errOversized
	case connOf(cl).link.topic(pk.TopicName).purpose == noTopic:
		return pk, errUnknownTopic
	}
	return pk, nil
}

// glance refuses a CONNECT that the broker would answer with codes which
// MQTT 3.1.1 does not have.
func (h *deviceHook) glance(cl *mqtt.Client, pk packets.Packet) error {
	switch {
	case pk.ProtocolVersion != 4:
		return h.refuse(cl, &packets.ErrUnsupportedProtocolVersion, "the protocol is not MQTT 3.1.1")
	case pk.Connect.ClientIdentifier == "":
		return h.refuse(cl, &packets.ErrClientIdentifierNotValid, "there is no client id")
	case pk.ConnectValidate() != packets.CodeSuccess:
		return h.refuse(cl, &packets.ErrMalformedUsername, "the connection's settings contradict each other")
	}
	return nil
}

// takeWill keeps the will from the broker, which dislikes an empty one and
// answers QoS 2 with a code that MQTT 3.1.1 does not have.
func (c *deviceConn) takeWill(p *packets.ConnectParams) {
	if !p.WillFlag {
		return
	}
	c.will = &will{topic: p.WillTopic, payload: p.WillPayload, qos: p.WillQos}
	p.WillFlag, p.WillTopic, p.WillPayload, p.WillQos, p.WillRetain = false, "", nil, 0, false
}

// OnPublish takes what a device sent. The broker acknowledges it and forgets it.
func (h *deviceHook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	l := connOf(cl).link
	if err := l.receive(pk.TopicName, pk.Payload); err != nil {
		cl.Stop(err)
		return pk, packets.ErrRejectPacket
	}
	return pk, packets.CodeSuccessIgnore
}

// OnPacketEncode tells a device that comes back whether the hub remembers it.
func (h *deviceHook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if l := connOf(cl).link; pk.FixedHeader.Type == packets.Connack && l != nil && pk.ReasonCode == 0 {
		pk.SessionPresent = l.session != filterSet{}
	}
	return pk
}

// OnSubscribed comes before the SUBACK. From here on the device counts as
// subscribed, for it may ask somebody to call it as soon as it has the SUBACK;
// but nothing is sent until that is out.
func (h *deviceHook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	l := connOf(cl).link
	l.turn.Lock()
	for i, sub := range pk.Filters {
		if codes[i] <= 1 {
			l.subscribe(l.filter(sub.Filter), codes[i])
		}
	}
}

// OnPacketProcessed follows the answer to a packet, the SUBACK among them.
func (h *deviceHook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, _ error) {
	l := connOf(cl).link
	switch pk.FixedHeader.Type {
	case packets.Subscribe:
		l.turn.Unlock()
	case packets.Puback:
		l.heard()
		h.front.Mail.acknowledge(l, pk.PacketID)
	}
}

// OnUnsubscribed follows an UNSUBSCRIBE, and the end of the broker's session.
func (h *deviceHook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	l := connOf(cl).link
	if l == nil || cl.Closed() {
		return
	}
	for _, sub := range pk.Filters {
		l.unsubscribe(l.filter(sub.Filter))
	}
}

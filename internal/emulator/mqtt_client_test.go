package emulator

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// testDevice speaks MQTT to a hub over a pipe, one packet at a time. It knows
// nothing of what the hub means by them.
type testDevice struct {
	tb   testing.TB
	hub  testHub
	id   string
	conn net.Conn
	in   chan packets.Packet // closed when the hub ends the connection
	next uint16
}

// dial connects without saying anything.
func (h testHub) dial(tb testing.TB, id string) *testDevice {
	tb.Helper()
	ours, theirs := net.Pipe()
	d := &testDevice{tb: tb, hub: h, id: id, conn: ours, in: make(chan packets.Packet, 100)}
	h.front.Serving.Go(func() { h.front.Serve(theirs) })
	go d.read() // ends with the connection, which the hub closes at the latest
	tb.Cleanup(func() { ours.Close() })
	return d
}

func (d *testDevice) read() {
	defer close(d.in)
	r := bufio.NewReader(d.conn)
	for {
		first, err := r.ReadByte()
		if err != nil {
			return
		}
		var pk packets.Packet
		if err = pk.FixedHeader.Decode(first); err != nil {
			return
		}
		pk.FixedHeader.Remaining, _, err = packets.DecodeLength(r)
		if err != nil {
			return
		}
		body := make([]byte, pk.FixedHeader.Remaining)
		if _, err = io.ReadFull(r, body); err != nil {
			return
		}
		pk.ProtocolVersion = 4
		switch pk.FixedHeader.Type {
		case packets.Connack:
			err = pk.ConnackDecode(body)
		case packets.Suback:
			err = pk.SubackDecode(body)
		case packets.Publish:
			err = pk.PublishDecode(body)
		case packets.Puback:
			err = pk.PubackDecode(body)
		}
		if err != nil {
			return
		}
		d.in <- pk
	}
}

func (d *testDevice) write(b *bytes.Buffer, err error) {
	d.tb.Helper()
	if err != nil {
		d.tb.Fatal(err)
	}
	if _, err := d.conn.Write(b.Bytes()); err != nil {
		d.tb.Fatalf("write to the hub: %v", err)
	}
}

// receive returns the next packet of the hub; ok is false when it hung up.
func (d *testDevice) receive() (packets.Packet, bool) {
	d.tb.Helper()
	select {
	case pk, ok := <-d.in:
		return pk, ok
	case <-time.After(time.Minute):
		d.tb.Fatal("the hub said nothing for a minute")
		return packets.Packet{}, false
	}
}

// hungUp waits for the end of the connection, and returns what came before it.
func (d *testDevice) hungUp() []packets.Packet {
	d.tb.Helper()
	var all []packets.Packet
	for {
		pk, ok := d.receive()
		if !ok {
			return all
		}
		all = append(all, pk)
	}
}

// silent says whether nothing came in a second.
func (d *testDevice) silent() bool {
	d.tb.Helper()
	select {
	case pk, ok := <-d.in:
		d.tb.Logf("not silent: %v %+v %s", ok, pk.TopicName, pk.Payload)
		return false
	case <-time.After(time.Second):
		return true
	}
}

// hello is what a device says when it connects.
type hello struct {
	user, password string
	session        bool // not a clean one
	keepAlive      uint16
	version        byte
	will           string                 // topic
	left           *packets.ConnectParams // a whole will
}

// connect returns the CONNACK's code and whether the hub remembers a session.
func (d *testDevice) connect(h hello) (code int, remembered bool) {
	d.tb.Helper()
	d.hello(h)
	ack, ok := d.receive()
	if !ok || ack.FixedHeader.Type != packets.Connack {
		d.tb.Fatalf("the hub answered CONNECT with %+v (hung up: %t), want a CONNACK", ack, !ok)
	}
	return int(ack.ReasonCode), ack.SessionPresent
}

// hello sends CONNECT.
func (d *testDevice) hello(h hello) {
	d.tb.Helper()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: d.id, Clean: !h.session, Keepalive: h.keepAlive,
			UsernameFlag: true, Username: []byte(h.user), PasswordFlag: true, Password: []byte(h.password), // flagged even when empty
		},
	}
	if h.version != 0 {
		pk.ProtocolVersion = h.version
	}
	if h.will != "" {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, h.will, []byte("gone")
	}
	if w := h.left; w != nil {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, w.WillTopic, w.WillPayload
		pk.Connect.WillQos, pk.Connect.WillRetain = w.WillQos, w.WillRetain
	}
	d.put(pk.ConnectEncode)
}

// put sends what encode makes.
func (d *testDevice) put(encode func(*bytes.Buffer) error) {
	d.tb.Helper()
	var b bytes.Buffer
	d.write(&b, encode(&b))
}

// subscribe returns what the hub grants.
func (d *testDevice) subscribe(qos byte, filters ...string) []byte {
	d.tb.Helper()
	d.next++
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: 4, PacketID: d.next,
	}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	var b bytes.Buffer
	d.write(&b, pk.SubscribeEncode(&b))
	ack, _ := d.receive()
	if ack.FixedHeader.Type != packets.Suback || ack.PacketID != d.next {
		d.tb.Fatalf("the hub answered SUBSCRIBE %d with %+v", d.next, ack)
	}
	return ack.ReasonCodes
}

func (d *testDevice) unsubscribe(filter string) {
	d.tb.Helper()
	d.next++
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, ProtocolVersion: 4, PacketID: d.next,
		Filters: packets.Subscriptions{{Filter: filter}},
	}
	var b bytes.Buffer
	d.write(&b, pk.UnsubscribeEncode(&b))
	if ack, _ := d.receive(); ack.FixedHeader.Type != packets.Unsuback {
		d.tb.Fatalf("the hub answered UNSUBSCRIBE with %+v", ack)
	}
}

// publish sends a message; one with QoS 1 waits for its acknowledgement.
func (d *testDevice) publish(topic, body string, qos byte) {
	d.tb.Helper()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, ProtocolVersion: 4,
		TopicName: topic, Payload: []byte(body),
	}
	if qos > 0 {
		d.next++
		pk.PacketID = d.next
	}
	var b bytes.Buffer
	d.write(&b, pk.PublishEncode(&b))
	if qos != 1 {
		return
	}
	if ack, _ := d.receive(); ack.FixedHeader.Type != packets.Puback || ack.PacketID != d.next {
		d.tb.Fatalf("the hub answered PUBLISH %d with %+v", d.next, ack)
	}
}

func (d *testDevice) acknowledge(id uint16) {
	d.tb.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: 4, PacketID: id}
	var b bytes.Buffer
	d.write(&b, pk.PubackEncode(&b))
}

// goodbye sends DISCONNECT.
func (d *testDevice) goodbye() {
	d.tb.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ProtocolVersion: 4}
	var b bytes.Buffer
	d.write(&b, pk.DisconnectEncode(&b))
	d.hungUp()
}

// message returns the next packet, which must be a publication.
func (d *testDevice) message() (topic, body string) {
	d.tb.Helper()
	pk, ok := d.receive()
	if !ok || pk.FixedHeader.Type != packets.Publish {
		d.tb.Fatalf("the hub sent %+v (hung up: %t), want a publication", pk, !ok)
	}
	return pk.TopicName, string(pk.Payload)
}

// keysAt returns the keys of a device or module, as the registry shows them.
func (h testHub) keysAt(tb testing.TB, path string) (primary, secondary string) {
	tb.Helper()
	doc := h.do(tb, "GET", path, "").want(tb, 200).doc(tb)
	a, _ := at(tb, doc, "authentication", "symmetricKey", "primaryKey").(string)
	b, _ := at(tb, doc, "authentication", "symmetricKey", "secondaryKey").(string)
	return a, b
}

// online returns a connected device, signed in with its own key.
func (h testHub) online(tb testing.TB, id string) *testDevice {
	tb.Helper()
	key, _ := h.keysAt(tb, "/devices/"+id)
	d := h.dial(tb, id)
	code, _ := d.connect(hello{
		user: "localhost/" + id + "/?api-version=2021-04-12", password: sign(tb, "localhost/devices/"+id, key, "", time.Now().Add(time.Hour)),
	})
	same(tb, "CONNACK", code, 0)
	return d
}

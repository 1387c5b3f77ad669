// Package devices speaks with devices over MQTT, and keeps the messages that wait for
// them.
package devices

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"iothub-runner/internal/emulator/core"
)

// This file follows "Communicate with your IoT hub using the MQTT protocol".
//
// An MQTT broker does the protocol: packets, acknowledgements, keep-alive. It
// never routes anything. Every publication of a device ends in the hub, and
// what the hub has to say goes to one device, so the broker's topics are of no
// use, and dangerous: all devices subscribe to the same ones.

// The bounds of what devices send.
const (
	MaxDeviceMessage = 256 << 10                   // the hub's limit of one message
	maxDevicePacket  = MaxDeviceMessage + 16<<10   // with its topic and properties
	ConnectDeadline  = 15 * time.Second            // for TLS and CONNECT
	maxGreeting      = 32 << 10                    // a CONNECT, with its token and a will
	maxKeepAlive     = 1177                        // seconds; the hub waits one and a half times as long
	MaxPendingToSend = 256                         // packets that a device has not read yet
	deviceListener   = "devices"                   // what the broker calls it
	maxDeviceConns   = 16_384                      // open connections of devices
	brokerQuiet      = int64(24 * time.Hour / 1e9) // seconds between statistics that nobody reads
)

// Front is where devices connect.
type Front struct {
	*core.Hub

	tls       *tls.Config
	tlsFailed func(from, why string) // is told of handshakes that failed
	Heard     heard
	Broker    func() *mqtt.Server
	Addr      string
	Ln        net.Listener
	Mail      mailroom

	held context.Context //nolint:containedctx // the front owns it: what holds a device back hangs on it
	end  context.CancelFunc

	mu    sync.Mutex
	Open  map[*deviceConn]struct{} // guarded by mu
	ended bool                     // guarded by mu

	connections atomic.Uint64 // so far
	Serving     sync.WaitGroup
}

// deviceConn is one connection of a device, over TLS or a web socket.
type deviceConn struct {
	net.Conn
	front *Front
	link  *mqttLink // set once the device has been admitted
	will  *will     // from the CONNECT; nil without one
	first greeting
}

// Read is that of the connection below, until it sees a first packet that no
// device would send. The broker makes room for a packet when it has read how
// large that is said to be; strangers may not claim as much as devices.
func (c *deviceConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.link == nil && !c.first.plausible(p[:n]) {
		return 0, errBadGreeting
	}
	return n, err
}

// SetDeadline is that of the connection below. The broker reckons one and a
// half times the keep-alive in whole seconds, and loses half a second of the
// odd ones: a third of what a device that announces one second has.
func (c *deviceConn) SetDeadline(t time.Time) error {
	if c.link != nil && c.link.client.State.Keepalive%2 == 1 && !t.IsZero() {
		t = t.Add(time.Second / 2)
	}
	return c.Conn.SetDeadline(t)
}

// greeting is the beginning of a connection: the header of its first packet.
type greeting struct {
	seen int  // bytes of the header
	size int  // of the packet, as far as it was read
	done bool // the header was read to its end
}

// plausible says whether what has come so far may begin a CONNECT.
func (g *greeting) plausible(p []byte) bool {
	const connect, more = 0x10, 0x80
	for _, b := range p {
		switch {
		case g.done:
			return g.size <= maxGreeting
		case g.seen == 0 && b != connect || g.seen > 4:
			return false
		case g.seen > 0:
			g.size |= int(b&^more) << (7 * (g.seen - 1))
			g.done = b&more == 0
		}
		g.seen++
	}
	return g.size <= maxGreeting
}

// Close ends the connection at once. Saying goodbye, as TLS does, could wait
// for a device that does not read.
func (c *deviceConn) Close() error { return closeNow(c.Conn) }

// drop is Close where nobody can do anything about its error.
func (c *deviceConn) drop() { _ = c.Close() }

func closeNow(c net.Conn) error {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn().Close()
	}
	return c.Close()
}

// NewFront returns what speaks with the devices of a hub, and says of handshakes that
// they failed.
func NewFront(h *core.Hub, secure *tls.Config, tlsFailed func(from, why string)) *Front {
	f := &Front{Hub: h, tls: secure, tlsFailed: tlsFailed, Open: map[*deviceConn]struct{}{}}
	f.held, f.end = context.WithCancel(context.Background())
	f.Broker = sync.OnceValue(f.newBroker) // most hubs of tests never need one
	return f
}

func (s *Front) newBroker() *mqtt.Server {
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumPacketSize = maxDevicePacket
	caps.MaximumQos = 1
	caps.MaximumClientWritesPending = 1 // the link has a queue of its own
	caps.TopicAliasMaximum = 0
	caps.SharedSubAvailable = 0
	broker := mqtt.New(&mqtt.Options{
		Capabilities:           caps,
		SysTopicResendInterval: brokerQuiet,
		// The broker's log prints packets, passwords included. What is worth
		// telling is logged here.
		Logger: slog.New(slog.DiscardHandler),
	})
	if err := broker.AddHook(&deviceHook{front: s, broker: broker}, nil); err != nil {
		panic("emulator: a hook without settings refuses them: " + err.Error())
	}
	return broker
}

// Listen accepts devices over TLS until the hub closes.
func (s *Front) Listen(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for MQTT: %w", err)
	}
	s.Addr = ln.Addr().String()
	config := s.tls.Clone()
	config.NextProtos = nil // those of HTTP; a device that names "mqtt" is served as well
	s.Ln = tls.NewListener(NewBoundedListener(ln, maxDeviceConns), config)
	s.Serving.Go(func() {
		for s.Accept() {
		}
	})
	return nil
}

// acceptPause is how long nobody is let in after that went wrong. It does when
// there are no more files, which passes.
const acceptPause = 100 * time.Millisecond

// Accept lets one device in; it returns false when the hub has closed.
func (s *Front) Accept() bool {
	c, err := s.Ln.Accept()
	switch {
	case errors.Is(err, net.ErrClosed):
		return false
	case err != nil:
		s.Log.Error("accept a device", "error", err)
		pause := time.NewTimer(acceptPause)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-s.held.Done():
		}
	default:
		s.Serving.Go(func() { s.Serve(c) })
	}
	return true
}

// Serve takes a connection to its end.
func (s *Front) Serve(c net.Conn) {
	dc := &deviceConn{Conn: c, front: s}
	if !s.enter(dc) {
		dc.drop()
		return
	}
	defer s.leave(dc)
	err := c.SetDeadline(time.Now().Add(ConnectDeadline))
	if t, ok := c.(*tls.Conn); ok && err == nil {
		if err = t.HandshakeContext(s.held); err != nil {
			s.tlsFailed(c.RemoteAddr().String(), err.Error())
		}
	}
	if err == nil {
		err = s.Broker().EstablishConnection(deviceListener, dc)
	}
	dc.drop()
	if dc.link != nil {
		dc.link.end()
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.Log.Log(context.Background(), core.LevelTrace, "device connection ended", "from", c.RemoteAddr().String(), "error", err)
	}
}

// enter counts a connection in, unless the hub is closing.
func (s *Front) enter(dc *deviceConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.Open[dc] = struct{}{}
	return true
}

func (s *Front) leave(dc *deviceConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.Open, dc)
}

// Close ends every connection and waits for those who served them.
func (s *Front) Close() {
	s.mu.Lock()
	s.ended = true
	conns := make([]*deviceConn, 0, len(s.Open))
	for dc := range s.Open {
		conns = append(conns, dc)
	}
	s.mu.Unlock()
	if s.Ln != nil {
		if err := s.Ln.Close(); err != nil {
			s.Log.Error("close the listener for devices", "error", err)
		}
	}
	s.end()
	for _, dc := range conns {
		dc.drop()
	}
	s.Serving.Wait()
}

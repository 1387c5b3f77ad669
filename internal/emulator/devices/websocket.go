package devices

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// This file follows "Communicate with your IoT hub using the MQTT protocol",
// section on MQTT over WebSockets.

// WebsocketPath is where devices speak MQTT on the HTTPS listener.
const WebsocketPath = "/$iothub/websocket"

// ServeWebsocket takes a device's web socket to its end.
func (s *Front) ServeWebsocket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{
		HandshakeTimeout: ConnectDeadline,
		Subprotocols:     []string{"mqtt"},
		// Pages may connect from anywhere: what lets a device in is its key.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	ws.SetReadLimit(maxDevicePacket)
	s.Serve(&socketConn{Conn: ws.UnderlyingConn(), ws: ws})
}

// socketConn makes a stream of the binary messages of a web socket. MQTT does
// not care where one message ends and the next begins.
type socketConn struct {
	net.Conn
	ws      *websocket.Conn
	message io.Reader // the one being read; nil between two

	// writeBy is the deadline of writes. The library keeps it where the reader
	// may not set it while somebody writes.
	writeBy atomic.Pointer[time.Time]
}

// Read reads on in the messages. Text messages break the protocol.
func (c *socketConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("a text message on a web socket for MQTT")
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends p as one message. The broker writes one at a time.
func (c *socketConn) Write(p []byte) (int, error) {
	if t := c.writeBy.Load(); t != nil {
		if err := c.ws.SetWriteDeadline(*t); err != nil {
			return 0, err
		}
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the connection below without a closing handshake.
func (c *socketConn) Close() error { return closeNow(c.Conn) }

// SetDeadline is for both directions.
func (c *socketConn) SetDeadline(t time.Time) error {
	c.writeBy.Store(&t)
	return c.ws.SetReadDeadline(t)
}

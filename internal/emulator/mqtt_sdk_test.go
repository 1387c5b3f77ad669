package emulator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/amenzhinsky/iothub/iotdevice"
	iotmqtt "github.com/amenzhinsky/iothub/iotdevice/transport/mqtt"
	"github.com/amenzhinsky/iothub/logger"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"iothub-runner/internal/emulator/devices"
)

// The Go client for devices that people use, over real sockets: MQTT over TLS,
// and the same over web sockets on the HTTPS listener.
func TestGoDeviceClient(t *testing.T) {
	h, pool := listening(t)
	h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
	key, _ := h.keysAt(t, "/devices/d")
	for _, server := range []string{"tls://" + h.MQTTAddr(), "wss://" + h.HTTPSAddr() + devices.WebsocketPath} {
		t.Run(strings.Split(server, ":")[0], func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			d := goDevice(ctx, t, h.HostName(), "d", key, server, pool)
			err := d.RegisterMethod(ctx, "lockDoor", func(p map[string]any) (int, map[string]any, error) {
				return 201, map[string]any{"got": p}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			a := h.do(t, "POST", "/twins/d/methods", `{"methodName":"lockDoor","payload":{"lockTime":"10m"}}`)
			same(t, "answer", a.want(t, 200).body, `{"status":201,"payload":{"got":{"lockTime":"10m"}}}`)
			goDeviceTwin(ctx, t, h, d)
			goDeviceMessages(ctx, t, h, d)
		})
	}
}

func goDeviceTwin(ctx context.Context, t *testing.T, h testHub, d *iotdevice.Client) {
	t.Helper()
	updates, err := d.SubscribeTwinUpdates(ctx)
	if err != nil {
		t.Fatal(err)
	}
	desired, reported, err := d.RetrieveTwinState(ctx)
	if err != nil {
		t.Fatal(err)
	}
	version, err := d.UpdateTwinState(ctx, iotdevice.TwinState{"floor": desired.Version()})
	if err != nil || version != reported.Version()+1 {
		t.Fatalf("UpdateTwinState = %d, %v, want the version after %d", version, err, reported.Version())
	}
	h.do(t, "PATCH", "/twins/d", `{"properties":{"desired":{"floor":7}}}`).want(t, 200)
	select {
	case got := <-updates.C():
		same(t, "desired", got, iotdevice.TwinState{"floor": 7.0, "$version": float64(desired.Version() + 1)})
	case <-ctx.Done():
		t.Fatal("no notice of a change of desired properties")
	}
}

func goDeviceMessages(ctx context.Context, t *testing.T, h testHub, d *iotdevice.Client) {
	t.Helper()
	before := h.Executed("d").Messages
	err := d.SendEvent(ctx, []byte(`{"t":20}`), iotdevice.WithSendMessageID("m/1"), iotdevice.WithSendProperty("a b", "c=d&e"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "messages", h.Executed("d").Messages, before+1)
	mail, err := d.SubscribeEvents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err = h.Send(t.Context(), "d", devices.Message{ID: "7", Properties: map[string]string{"a b": "1/2"}, Body: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-mail.C():
		same(t, "message", fmt.Sprint(string(m.Payload), m.MessageID, m.Properties), "hello7map[a b:1/2]")
	case <-ctx.Done():
		t.Fatal("no message from the cloud")
	}
}

func TestGoDeviceClientIsRefused(t *testing.T) {
	h, pool := listening(t)
	h.do(t, "PUT", "/devices/d", "{}").want(t, 200)
	h.do(t, "PUT", "/devices/e", "{}").want(t, 200)
	key, _ := h.keysAt(t, "/devices/e")
	for _, server := range []string{"tls://" + h.MQTTAddr(), "wss://" + h.HTTPSAddr() + devices.WebsocketPath} {
		c := goClient(t, h.HostName(), "d", key, server, pool)
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		err := c.Connect(ctx)
		stop()
		if err == nil || !strings.Contains(err.Error(), "not Authorized") {
			t.Errorf("%s: Connect with another device's key = %v, want a refusal", server, err)
		}
	}
}

// listening is a hub on real sockets.
func listening(tb testing.TB) (testHub, *x509.CertPool) {
	tb.Helper()
	s, err := Start(Options{HTTPSAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if closeErr := s.Close(); closeErr != nil {
			tb.Errorf("Close: %v", closeErr)
		}
	})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CAPEM())
	return testHub{Server: s, token: signedBy(tb, s, "iothubowner", "localhost", time.Hour)}, pool
}

func goClient(tb testing.TB, host, id, key, server string, pool *x509.CertPool) *iotdevice.Client {
	tb.Helper()
	creds, err := iotdevice.ParseConnectionString("HostName=" + host + ";DeviceId=" + id + ";SharedAccessKey=" + key)
	if err != nil {
		tb.Fatal(err)
	}
	tr := iotmqtt.New(iotmqtt.WithClientOptionsConfig(func(o *mqtt.ClientOptions) {
		o.Servers = nil
		o.AddBroker(server)
		o.SetTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	}))
	c, err := iotdevice.New(tr, creds, iotdevice.WithLogger(logger.New(logger.LevelOff, nil)))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func goDevice(ctx context.Context, tb testing.TB, host, id, key, server string, pool *x509.CertPool) *iotdevice.Client {
	tb.Helper()
	c := goClient(tb, host, id, key, server, pool)
	if err := c.Connect(ctx); err != nil {
		tb.Fatalf("connect to %s: %v", server, err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("close the device: %v", err)
		}
	})
	return c
}

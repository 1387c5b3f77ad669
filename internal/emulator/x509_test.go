package emulator

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"iothub-runner/internal/emulator/devices"
)

// selfSigned makes a certificate that ends at a time, and its two thumbprints.
func selfSigned(tb testing.TB, ends time.Time) (cert tls.Certificate, short, long string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "device"}, NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	a, b := sha1.Sum(der), sha256.Sum256(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, hex.EncodeToString(a[:]), hex.EncodeToString(b[:])
}

// dialTLS is dial with a certificate, if it is given.
func (h testHub) dialTLS(tb testing.TB, id string, cert ...tls.Certificate) *testDevice {
	tb.Helper()
	ours, theirs := net.Pipe()
	config := h.tls.Clone()
	config.NextProtos = nil
	h.front.Serving.Go(func() { h.front.Serve(tls.Server(theirs, config)) })
	d := &testDevice{tb: tb, hub: h, id: id, in: make(chan packets.Packet, 100)}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(h.CAPEM())
	d.conn = tls.Client(ours, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: cert, MinVersion: tls.VersionTLS12})
	go d.read() // ends with the connection, which the hub closes at the latest
	tb.Cleanup(func() { ours.Close() })
	return d
}

func TestDeviceWithCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		h := hubOf(t, Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
		good, short, long := selfSigned(t, time.Now().Add(time.Hour))
		old, oldShort, _ := selfSigned(t, time.Now().Add(-time.Hour))
		bad, _, _ := selfSigned(t, time.Now().Add(time.Hour))
		none := strings.Repeat("0", 40)
		for id, auth := range map[string]string{
			"short":  `{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"` + strings.ToUpper(short) + `","secondaryThumbprint":"` + none + `"}}`,
			"long":   `{"x509Thumbprint":{"primaryThumbprint":"` + none + `","secondaryThumbprint":"` + long + `"}}`,
			"old":    `{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"` + oldShort + `"}}`,
			"bare":   `{"type":"selfSigned"}`,
			"keys":   `{"type":"sas"}`,
			"signed": `{"type":"certificateAuthority"}`,
		} {
			h.do(t, "PUT", "/devices/"+id, `{"authentication":`+auth+`}`).want(t, 200)
		}
		h.do(t, "PUT", "/devices/off", `{"status":"disabled","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"`+short+`"}}}`).want(t, 200)
		h.do(t, "PUT", "/devices/keys/modules/m", `{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"`+short+`"}}}`).want(t, 200)
		keys, _ := h.keysAt(t, "/devices/keys")
		token := sign(t, "localhost/devices/keys", keys, "", time.Now().Add(time.Hour))
		tests := []struct {
			name, id, password string
			certs              []tls.Certificate
			code               int
		}{
			{"SHA-1, primary, in capitals", "short", "", []tls.Certificate{good}, 0},
			{"SHA-256, secondary", "long", "", []tls.Certificate{good}, 0},
			{"a certificate that has ended", "old", "", []tls.Certificate{old}, 0},
			{"a module's", "keys/m", "", []tls.Certificate{good}, 0},
			{"a key beside a certificate", "keys", token, []tls.Certificate{good}, 0},
			{"another certificate", "short", "", []tls.Certificate{bad}, 5},
			{"no certificate", "short", "", nil, 5},
			{"no thumbprint", "bare", "", []tls.Certificate{good}, 5},
			{"a device that has keys", "keys", "", []tls.Certificate{good}, 5},
			{"a token in place of the certificate", "short", sign(t, "localhost/devices/short", keys, "", time.Now().Add(time.Hour)), nil, 5},
			{"a disabled device", "off", "", []tls.Certificate{good}, 5},
			{"one of a certificate authority", "signed", "", []tls.Certificate{good}, 5},
		}
		for _, tt := range tests {
			logged.Reset()
			d := h.dialTLS(t, tt.id, tt.certs...)
			code, _ := d.connect(hello{user: "localhost/" + tt.id + "/?api-version=2021-04-12", password: tt.password})
			same(t, tt.name, code, tt.code)
			if warned := strings.Contains(logged.String(), "level=WARN"); warned != (tt.id == "signed") {
				t.Errorf("%s: the log says %s", tt.name, logged.String())
			}
		}
		same(t, "what the log of the last says of it", strings.Contains(logged.String(), "certificate authority, which the emulator does not verify") && strings.Contains(logged.String(), "device=signed"), true)
		// No token means no end.
		d := h.dialTLS(t, "short", good)
		d.connect(hello{user: "localhost/short", keepAlive: 1100})
		time.Sleep(20 * time.Minute)
		d.publish("devices/short/messages/events/", "x", 1)
	})
}

// TestCertificateOverSockets is the same with a client that people use, over
// both transports, and with a hub that has the thumbprint only.
func TestCertificateOverSockets(t *testing.T) {
	h, pool := listening(t)
	good, _, long := selfSigned(t, time.Now().Add(time.Hour))
	bad, _, _ := selfSigned(t, time.Now().Add(time.Hour))
	h.do(t, "PUT", "/devices/d", `{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"`+long+`"}}}`).want(t, 200)
	for _, server := range []string{"tls://" + h.MQTTAddr(), "wss://" + h.HTTPSAddr() + devices.WebsocketPath} {
		for _, tt := range []struct {
			cert tls.Certificate
			want string
		}{{good, ""}, {bad, "not Authorized"}} {
			o := mqtt.NewClientOptions().AddBroker(server).SetClientID("d").SetUsername("localhost/d/?api-version=2021-04-12").
				SetTLSConfig(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{tt.cert}, MinVersion: tls.VersionTLS12})
			o.SetAutoReconnect(false).SetConnectRetry(false).SetProtocolVersion(4)
			c := mqtt.NewClient(o)
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			token := c.Connect()
			select {
			case <-token.Done():
			case <-ctx.Done():
				t.Error("no answer to CONNECT")
			}
			stop()
			if err := token.Error(); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s: Connect = %v, want %q", server, err, tt.want)
			}
			c.Disconnect(0)
		}
	}
}

// Command device is the device of the tutorial: it connects to a hub over MQTT,
// answers the method lockDoor, prints the desired properties it is sent and
// reports them back. It runs against the emulator and against an IoT Hub alike.
//
//	runner emulator --tls-dir hub --device myDevice     # prints the connection string
//	IOTHUB_DEVICE_CONNECTION_STRING='HostName=...;DeviceId=myDevice;SharedAccessKey=...' \
//	    go run ./examples/device --ca-file hub/ca.pem
//
// It ends at an interrupt, having said goodbye to the hub.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/amenzhinsky/iothub/iotdevice"
	iotmqtt "github.com/amenzhinsky/iothub/iotdevice/transport/mqtt"
	"github.com/amenzhinsky/iothub/logger"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const usage = `device connects to an IoT hub, answers lockDoor and reports what is desired.

The environment variable IOTHUB_DEVICE_CONNECTION_STRING says which device of
which hub it is: HostName=...;DeviceId=...;SharedAccessKey=...

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv("IOTHUB_DEVICE_CONNECTION_STRING"), os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "device: error:", err)
		os.Exit(1)
	}
}

// run is the life of the device. It returns nil when ctx ends it.
func run(ctx context.Context, args []string, connectionString string, out, talk io.Writer) error {
	flags := flag.NewFlagSet("device", flag.ContinueOnError)
	flags.SetOutput(talk)
	flags.Usage = func() {
		fmt.Fprint(talk, usage)
		flags.PrintDefaults()
	}
	addr := flags.String("mqtt", "", "connect to this `ADDRESS` instead of the connection string's host (port 8883 unless it names one)")
	caFile := flags.String("ca-file", "", "trust the certificate authority in `FILE`, as the emulator has one, beside the system's")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if connectionString == "" {
		return errors.New("no connection string; IOTHUB_DEVICE_CONNECTION_STRING is to hold HostName, DeviceId and SharedAccessKey")
	}
	creds, err := iotdevice.ParseConnectionString(connectionString)
	if err != nil {
		return fmt.Errorf("read the connection string: %w", err)
	}
	trust, err := trusted(*caFile)
	if err != nil {
		return err
	}
	return live(ctx, creds, endpoint{addr: *addr, trust: trust}, out)
}

// trusted returns the certificate authorities to trust; nil are the system's.
func trusted(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%q holds no certificate", file)
	}
	return pool, nil
}

// endpoint is where the hub listens for devices.
type endpoint struct {
	addr  string
	trust *x509.CertPool
}

// transport returns the library's, with our address and trust: it knows port
// 8883 only, and pins certificate authorities that have expired.
func (e endpoint) transport(hostName string) *iotmqtt.Transport {
	host, port, err := net.SplitHostPort(hostName)
	if err != nil {
		host, port = hostName, "8883"
	}
	addr := e.addr
	if addr == "" {
		addr = net.JoinHostPort(host, port)
	}
	return iotmqtt.New(iotmqtt.WithClientOptionsConfig(func(o *mqtt.ClientOptions) {
		o.Servers = nil
		o.AddBroker("tls://" + addr)
		o.SetTLSConfig(&tls.Config{RootCAs: e.trust, ServerName: host, MinVersion: tls.VersionTLS12})
		o.SetConnectTimeout(30 * time.Second)
	}))
}

// live connects, serves until ctx ends, and says goodbye.
func live(ctx context.Context, creds *iotdevice.SharedAccessKeyCredentials, at endpoint, out io.Writer) error {
	tr := at.transport(creds.HostName)
	client, err := iotdevice.New(tr, creds, iotdevice.WithLogger(logger.New(logger.LevelOff, nil)))
	if err != nil {
		return fmt.Errorf("make the client: %w", err)
	}
	if err = client.Connect(ctx); err != nil {
		return fmt.Errorf("connect %q to %s: %w", creds.DeviceID, creds.HostName, err)
	}
	d := &device{client: client, out: out}
	served := d.serve(ctx, tr)
	if err = client.Close(); err != nil {
		return errors.Join(served, fmt.Errorf("disconnect: %w", err))
	}
	if ctx.Err() == nil {
		return served
	}
	fmt.Fprintln(out, "disconnected") // what an interrupt cut short is no error
	return nil
}

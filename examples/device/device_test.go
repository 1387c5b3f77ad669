package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amenzhinsky/iothub/iotservice"
	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
)

// The device does what the tutorial asks of it, against an emulated hub, with
// a service that speaks to it through a client that is not ours.
func TestDeviceOfTheTutorial(t *testing.T) {
	hub, service := startHub(t)
	created, err := service.CreateDevice(t.Context(), &iotservice.Device{DeviceID: "door"})
	if err != nil {
		t.Fatal(err)
	}
	cs, err := service.DeviceConnectionString(created, false)
	if err != nil {
		t.Fatal(err)
	}
	patch(t, service, "door", map[string]any{"floor": 1})

	ctx, interrupt := context.WithCancel(t.Context())
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { // ends with run, which interrupt ends
		ended <- run(ctx, []string{"--mqtt", hub.MQTTAddr(), "--ca-file", hub.CAFile()}, cs, out, io.Discard)
		out.Close()
	}()
	lines := bufio.NewScanner(said)
	hear := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the device says %q (%v), want %q", lines.Text(), lines.Err(), want)
		}
	}
	hear("connected as door")
	hear(`desired {"floor":1}`)
	hear("reported, version 2")

	called := make(chan *iotservice.MethodResult, 1)
	call := func(method string, payload map[string]any) {
		go func() { // ends with the call
			answer, callErr := service.CallDeviceMethod(ctx, "door", &iotservice.MethodCall{MethodName: method, Payload: payload, ResponseTimeout: 10})
			if callErr != nil {
				t.Errorf("call %s: %v", method, callErr)
			}
			called <- answer
		}()
	}
	call("lockDoor", map[string]any{"lockTime": "10m"})
	hear(`lockDoor called with {"lockTime":"10m"}`)
	want := &iotservice.MethodResult{Status: 200, Payload: map[string]any{"Response": "lockDoor called successfully"}}
	if diff := cmp.Diff(want, <-called); diff != "" {
		t.Errorf("lockDoor (-want +got):\n%s", diff)
	}
	call("dance", nil)
	hear("dance called with null")
	if answer := <-called; answer == nil || answer.Status != 404 {
		t.Errorf("an unknown method is answered %+v, want status 404", answer)
	}

	patch(t, service, "door", map[string]any{"building": 43, "floor": nil})
	hear(`desired {"building":43,"floor":null}`)
	hear("reported, version 3")
	twin, err := service.GetDeviceTwin(t.Context(), "door")
	if err != nil {
		t.Fatal(err)
	}
	if got := twin.Properties.Reported["building"]; got != 43.0 || twin.Properties.Reported["floor"] != nil {
		t.Errorf("services see reported %v, want building 43 and no floor", twin.Properties.Reported)
	}

	interrupt()
	hear("disconnected")
	if err := <-ended; err != nil {
		t.Errorf("run ends with %v", err)
	}
}

func TestDeviceRefusals(t *testing.T) {
	hub, service := startHub(t)
	created, err := service.CreateDevice(t.Context(), &iotservice.Device{DeviceID: "door"})
	if err != nil {
		t.Fatal(err)
	}
	cs, err := service.DeviceConnectionString(created, true)
	if err != nil {
		t.Fatal(err)
	}
	noCert := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCert, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"--mqtt", hub.MQTTAddr()}
	trusting := append(at, "--ca-file", hub.CAFile())
	tests := []struct {
		name, cs string
		args     []string
		want     string
	}{
		{"no connection string", "", trusting, "no connection string"},
		{"half a connection string", "HostName=localhost", trusting, "DeviceId is required"},
		{"another device's key", strings.Replace(cs, "DeviceId=door", "DeviceId=window", 1), trusting, "not Authorized"},
		{"a certificate nobody trusts", cs, at, "certificate signed by unknown authority"},
		{"no certificate in the file", cs, append(at, "--ca-file", noCert), "holds no certificate"},
		{"no file", cs, append(at, "--ca-file", noCert+".not"), "no such file"},
		{"nobody listens", cs, []string{"--mqtt", "127.0.0.1:1", "--ca-file", hub.CAFile()}, "connection refused"},
	}
	for _, tt := range tests {
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		err := run(ctx, tt.args, tt.cs, io.Discard, io.Discard)
		stop()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: run = %v, want an error that says %q", tt.name, err, tt.want)
		}
	}
}

// startHub returns a hub that listens for devices, and a service at it.
func startHub(tb testing.TB) (*emulator.Server, *iotservice.Client) {
	tb.Helper()
	hub, err := emulator.Start(emulator.Options{
		HTTPSAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", TLSDir: tb.TempDir(), Fleet: fleet.Default(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if closeErr := hub.Close(); closeErr != nil && !errors.Is(closeErr, context.DeadlineExceeded) {
			tb.Errorf("close the hub: %v", closeErr)
		}
	})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(hub.CAPEM())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	tb.Cleanup(client.CloseIdleConnections)
	service, err := iotservice.NewFromConnectionString(hub.ConnectionString(), iotservice.WithHTTPClient(client))
	if err != nil {
		tb.Fatal(err)
	}
	return hub, service
}

func patch(tb testing.TB, service *iotservice.Client, id string, desired map[string]any) {
	tb.Helper()
	text, err := json.Marshal(desired)
	if err != nil {
		tb.Fatal(err)
	}
	var props map[string]any
	if err = json.Unmarshal(text, &props); err != nil {
		tb.Fatal(err)
	}
	_, err = service.UpdateDeviceTwin(tb.Context(), &iotservice.Twin{
		DeviceID: id, ETag: "*", Properties: &iotservice.Properties{Desired: props},
	})
	if err != nil {
		tb.Fatal(err)
	}
}

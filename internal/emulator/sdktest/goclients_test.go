package sdktest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/amenzhinsky/iothub/iotdevice"
	iotmqtt "github.com/amenzhinsky/iothub/iotdevice/transport/mqtt"
	"github.com/amenzhinsky/iothub/iotservice"
	"github.com/amenzhinsky/iothub/logger"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hubtest/foreign"
)

// goCase is what one of the Go clients does with a hub.
type goCase struct {
	name  string
	fleet string
	run   func(t *testing.T, h *testHub)
}

func goCases() []goCase {
	return []goCase{
		{"registry", doors, goRegistry},
		{"bulk", doors, goBulk},
		{"modules", doors, goModules},
		{"twins", doors, goTwins},
		{"methods", doors, goMethods},
		{"query", "version: 1\ndevices:\n  - idPattern: lamp-%04d\n    count: 250\n", goQuery},
		{"jobs", doors, goJobs},
		{"wrong key", doors, goWrongKey},
		{"device", doors, goDevice},
		{"device over web sockets", doors, goDeviceOverWebSockets},
	}
}

// TestGo lets the Go clients use a hub on ports that the kernel picks.
func TestGo(t *testing.T) {
	t.Parallel()
	for _, c := range goCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, startHub(t, anyPorts("localhost"), c.fleet))
		})
	}
}

// TestGoOnStandardPorts lets them use the ports that they would choose.
func TestGoOnStandardPorts(t *testing.T) {
	if foreign.Excused(t, goClients+" on the standard ports", standardPortsFree(t.Context())) {
		return
	}
	for _, c := range goCases() {
		t.Run(c.name, func(t *testing.T) {
			if h, err := tryHub(t, standardPorts(), c.fleet); !foreign.Excused(t, goClients, err) {
				c.run(t, h)
			}
		})
	}
}

func goDevice(t *testing.T, h *testHub) {
	t.Helper()
	broker := "tls://localhost:" + port(t, h.MQTTAddr)
	if h.MQTTAddr == standardPorts().mqtt {
		broker = "" // the library's own idea of where it is
	}
	goDeviceAt(t, h, broker)
}

func goDeviceOverWebSockets(t *testing.T, h *testHub) {
	t.Helper()
	goDeviceAt(t, h, "wss://localhost:"+port(t, h.HTTPSAddr)+"/$iothub/websocket")
}

// goDeviceAt does with the Go client for devices what the tutorial's device
// does, and judges it by the Go client for services.
func goDeviceAt(t *testing.T, h *testHub, broker string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	service := goService(t, h, h.ServiceConnectionString)
	made, err := service.CreateDevice(ctx, &iotservice.Device{DeviceID: "myDevice"})
	if err != nil {
		t.Fatal(err)
	}
	refused := goDial(t, h, "d3Jvbmcga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMhIQ==", broker)
	if err = refused.Connect(ctx); err == nil || !strings.Contains(err.Error(), "not Authorized") {
		t.Errorf("Connect with a wrong key = %v, want a refusal", err)
	}
	device := goDial(t, h, made.Authentication.SymmetricKey.PrimaryKey, broker)
	if err = device.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if closeErr := device.Close(); closeErr != nil {
			t.Errorf("close the device: %v", closeErr)
		}
	}()
	goLocksTheDoor(ctx, t, service, device)
	goFollowsItsTwin(ctx, t, service, device)
	if err = device.SendEvent(ctx, []byte(`{"t":20}`), iotdevice.WithSendMessageID("m/1"), iotdevice.WithSendProperty("a b", "c=d&e")); err != nil {
		t.Fatal(err)
	}
	if got := h.executed(t, "myDevice"); got != (executed{Methods: 1, Patches: 1, Messages: 1}) {
		t.Errorf("the device executed %+v, want one of each", got)
	}
}

// goDial makes a client of the device myDevice. Without broker it finds the
// hub by its name.
func goDial(t *testing.T, h *testHub, key, broker string) *iotdevice.Client {
	t.Helper()
	creds, err := iotdevice.ParseConnectionString("HostName=" + h.name + ";DeviceId=myDevice;SharedAccessKey=" + key)
	if err != nil {
		t.Fatal(err)
	}
	transport := iotmqtt.New(iotmqtt.WithClientOptionsConfig(func(o *mqtt.ClientOptions) {
		if broker != "" {
			o.Servers = nil
			o.AddBroker(broker)
		}
		o.SetTLSConfig(h.tlsConfig(t))
	}))
	c, err := iotdevice.New(transport, creds, iotdevice.WithLogger(logger.New(logger.LevelOff, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func goLocksTheDoor(ctx context.Context, t *testing.T, service *iotservice.Client, device *iotdevice.Client) {
	t.Helper()
	err := device.RegisterMethod(ctx, "lockDoor", func(p map[string]any) (int, map[string]any, error) {
		return 201, map[string]any{"got": p}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := service.CallDeviceMethod(ctx, "myDevice", &iotservice.MethodCall{MethodName: "lockDoor", Payload: map[string]any{"lockTime": "10m"}})
	want := &iotservice.MethodResult{Status: 201, Payload: map[string]any{"got": map[string]any{"lockTime": "10m"}}}
	if diff := cmp.Diff(want, answer); err != nil || diff != "" {
		t.Errorf("CallDeviceMethod: %v (-want +got):\n%s", err, diff)
	}
}

func goFollowsItsTwin(ctx context.Context, t *testing.T, service *iotservice.Client, device *iotdevice.Client) {
	t.Helper()
	heard, err := device.SubscribeTwinUpdates(ctx)
	if err != nil {
		t.Fatal(err)
	}
	change := &iotservice.Twin{DeviceID: "myDevice", Properties: &iotservice.Properties{Desired: map[string]any{"building": 43}}}
	if _, err = service.UpdateDeviceTwin(ctx, change); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-heard.C():
		if diff := cmp.Diff(iotdevice.TwinState{"building": 43.0, "$version": 2.0}, got); diff != "" {
			t.Errorf("the device heard (-want +got):\n%s", diff)
		}
	case <-ctx.Done():
		t.Fatal("the device heard of no desired property")
	}
	desired, _, err := device.RetrieveTwinState(ctx)
	if err != nil || desired["building"] != 43.0 {
		t.Errorf("RetrieveTwinState = %v, %v, want building 43", desired, err)
	}
	if _, err = device.UpdateTwinState(ctx, iotdevice.TwinState{"building": desired["building"]}); err != nil {
		t.Fatal(err)
	}
	twin, err := service.GetDeviceTwin(ctx, "myDevice")
	if err != nil || twin.Properties.Reported["building"] != 43.0 {
		t.Errorf("GetDeviceTwin = %+v, %v, want building 43 reported", twin, err)
	}
}

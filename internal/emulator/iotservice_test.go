package emulator

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/amenzhinsky/iothub/iotservice"

	"iothub-runner/internal/emulator/fleet"
)

// goService is the Go client for services that people use, before a hub.
func goService(t *testing.T, fleetFile string, behaviour map[string]string) (*Server, *iotservice.Client) {
	t.Helper()
	f, err := fleet.Parse("fleet.yaml", []byte(fleetFile))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := startHub(t, Options{Fleet: f, Behaviour: behaviour})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CAPEM())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(tr.CloseIdleConnections)
	c, err := iotservice.NewFromConnectionString(s.ConnectionString(), iotservice.WithHTTPClient(&http.Client{Transport: tr}))
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestGoServiceClientRegistry(t *testing.T) {
	_, c := goService(t, moods, nil)
	ctx := t.Context()
	made, err := c.CreateDevice(ctx, &iotservice.Device{DeviceID: "go"})
	if err != nil {
		t.Fatal(err)
	}
	if made.Authentication.SymmetricKey.PrimaryKey == "" {
		t.Error("the created device has no key")
	}
	made.Status = iotservice.Disabled
	changed, err := c.UpdateDevice(ctx, made)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "status", changed.Status, iotservice.Disabled)
	if _, err = c.UpdateDevice(ctx, made); requestCode(err) != http.StatusPreconditionFailed {
		t.Errorf("update with a stale etag: %v", err)
	}
	if _, err = c.CreateModule(ctx, &iotservice.Module{DeviceID: "go", ModuleID: "m", ManagedBy: "me"}); err != nil {
		t.Fatal(err)
	}
	modules, err := c.ListModules(ctx, "go")
	if err != nil || len(modules) != 1 {
		t.Fatalf("ListModules = %v, %v", modules, err)
	}
	if err = c.DeleteModule(ctx, modules[0]); err != nil {
		t.Fatal(err)
	}
	result, err := c.CreateDevices(ctx, []*iotservice.Device{{DeviceID: "go"}, {DeviceID: "go2"}})
	if err != nil {
		t.Fatal(err)
	}
	if result.IsSuccessful || len(result.Errors) != 1 {
		t.Errorf("CreateDevices = %+v, want one error", result)
	}
	devices, err := c.ListDevices(ctx)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "devices", len(devices), 5)
	stats, err := c.DeviceStats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "statistics", []uint{stats.TotalDeviceCount, stats.DisabledDeviceCount}, []uint{5, 1})
	if _, err = c.PurgeQueue(ctx, "go2"); err != nil {
		t.Fatal(err)
	}
	if err = c.DeleteDevice(ctx, changed); err != nil {
		t.Fatal(err)
	}
	if _, err = c.GetDevice(ctx, "go"); requestCode(err) != http.StatusNotFound {
		t.Errorf("get of a deleted device: %v", err)
	}
}

func requestCode(err error) int {
	var refused *iotservice.RequestError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return 0
}

func TestGoServiceClientTwinsAndMethods(t *testing.T) {
	s, c := goService(t, offices+"  - ids: [ok]\n    methods: {lockDoor: {payload: {Response: locked}}}\n", nil)
	ctx := t.Context()
	twin, err := c.GetDeviceTwin(ctx, "gate")
	if err != nil {
		t.Fatal(err)
	}
	twin.Tags["moved"] = true
	if twin, err = c.UpdateDeviceTwin(ctx, twin); err != nil {
		t.Fatal(err)
	}
	same(t, "tags", twin.Tags["moved"], any(true))
	same(t, "patches", s.Executed("gate").Patches, 1)
	answer, err := c.CallDeviceMethod(ctx, "ok", &iotservice.MethodCall{MethodName: "lockDoor", ResponseTimeout: 5, Payload: map[string]any{"lockTime": "10m"}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "answer", answer, &iotservice.MethodResult{Status: 200, Payload: map[string]any{"Response": "locked"}})
	rows := 0
	if err = c.QueryDevices(ctx, "SELECT deviceId FROM devices", func(map[string]any) error { rows++; return nil }); err != nil {
		t.Fatal(err)
	}
	same(t, "rows of a query", rows, 252)
}

func TestGoServiceClientJobs(t *testing.T) {
	_, c := goService(t, moods, nil)
	ctx := t.Context()
	job, err := c.CreateJobV2(ctx, &iotservice.JobV2{
		JobID: "go-1", Type: iotservice.JobTypeUpdateTwin, QueryCondition: "*",
		UpdateTwin: map[string]any{"etag": "*", "tags": map[string]any{"job": 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); job.Status != iotservice.JobStatusCompleted; {
		if time.Now().After(limit) {
			t.Fatalf("the job is still %s", job.Status)
		}
		if job, err = c.GetJobV2(ctx, "go-1"); err != nil {
			t.Fatal(err)
		}
	}
	waiting, err := c.CreateJobV2(ctx, &iotservice.JobV2{
		JobID: "go-2", Type: iotservice.JobTypeDeviceMethod, QueryCondition: "deviceId = 'ok'", StartTime: time.Now().Add(time.Hour),
		CloudToDeviceMethod: &iotservice.DeviceMethodParams{MethodName: "lockDoor", TimeoutInSeconds: 60},
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "status of what waits", waiting.Status, iotservice.JobStatusQueued)
	cancelled, err := c.CancelJobV2(ctx, "go-2")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "status of what was cancelled", cancelled.Status, iotservice.JobStatusCancelled)
	seen := 0
	if err = c.QueryJobsV2(ctx, &iotservice.JobV2Query{}, func(*iotservice.JobV2) error { seen++; return nil }); err != nil {
		t.Fatal(err)
	}
	same(t, "jobs", seen, 2)
}

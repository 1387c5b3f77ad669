package sdktest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amenzhinsky/iothub/iotservice"
	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hubtest/swagger"
)

// goService is the Go service client with the hub's authority in its pool.
// Every exchange that succeeds is held to the service's description.
func goService(t *testing.T, h *testHub, cs string) *iotservice.Client {
	t.Helper()
	description, err := swagger.Load()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(h.caPEM(t)) {
		t.Fatal("the hub's authority is not PEM")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	checked := description.Transport(transport, func(x swagger.Exchange, v swagger.Verdict, err error) {
		switch {
		case err != nil:
			t.Error(err)
		case v.Request != nil && !knownOfGo(v.Request):
			t.Errorf("by the swagger: %v", v.Request)
		case v.Answer != nil && x.Status < http.StatusMultipleChoices: // errors are not described
			t.Errorf("by the swagger: %v", v.Answer)
		}
	})
	c, err := iotservice.NewFromConnectionString(cs, iotservice.WithHTTPClient(&http.Client{Transport: checked}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// knownOfGo lists what the client sends that is not as described, and that the
// hub takes.
func knownOfGo(err error) bool {
	text := err.Error()
	return strings.Contains(text, `{"Query":`) || // the key of a query
		strings.Contains(text, "importMode") || // "Update" for update
		strings.Contains(text, "timeoutInSeconds") // of a job's method, by its old name
}

func goRegistry(t *testing.T, h *testHub) {
	t.Helper()
	c, ctx := goService(t, h, h.ServiceConnectionString), t.Context()

	made, err := c.CreateDevice(ctx, &iotservice.Device{DeviceID: "go-1"})
	if err != nil {
		t.Fatal(err)
	}
	if made.Authentication == nil || made.Authentication.SymmetricKey.PrimaryKey == "" || made.Status != iotservice.Enabled {
		t.Errorf("CreateDevice = %+v, want an enabled device with keys", made)
	}
	_, err = c.CreateDevice(ctx, &iotservice.Device{DeviceID: "go-1"})
	wantStatus(t, "create again", err, http.StatusConflict)

	stale := *made
	made.Status = iotservice.Disabled
	updated, err := c.UpdateDevice(ctx, made)
	if err != nil || updated.Status != iotservice.Disabled || updated.ETag == stale.ETag {
		t.Errorf("UpdateDevice = %+v, %v, want it disabled with another etag", updated, err)
	}
	_, err = c.UpdateDevice(ctx, &stale)
	wantStatus(t, "update with a stale etag", err, http.StatusPreconditionFailed)

	list, err := c.ListDevices(ctx)
	if err != nil || !slices.ContainsFunc(list, func(d *iotservice.Device) bool { return d.DeviceID == "go-1" }) {
		t.Errorf("ListDevices = %d devices, %v, want go-1 among them", len(list), err)
	}
	stats, err := c.DeviceStats(ctx)
	if err != nil || stats.TotalDeviceCount != uint(len(list)) || stats.DisabledDeviceCount != 1 {
		t.Errorf("DeviceStats = %+v, %v, want %d devices, one disabled", stats, err, len(list))
	}
	online, err := c.ServiceStats(ctx)
	if err != nil || online.ConnectedDeviceCount != 27 {
		t.Errorf("ServiceStats = %+v, %v, want all but the one that is gone", online, err)
	}
	purged, err := c.PurgeQueue(ctx, "go-1")
	if err != nil || purged.TotalMessagesPurged != 0 {
		t.Errorf("PurgeQueue = %+v, %v", purged, err)
	}
	if err = c.DeleteDevice(ctx, updated); err != nil {
		t.Errorf("DeleteDevice: %v", err)
	}
	_, err = c.GetDevice(ctx, "go-1")
	wantStatus(t, "get what was deleted", err, http.StatusNotFound)
}

// wantStatus fails unless err is the client's error for an HTTP status.
func wantStatus(t *testing.T, what string, err error, status int) {
	t.Helper()
	if refused, ok := errors.AsType[*iotservice.RequestError](err); !ok || refused.Code != status {
		t.Errorf("%s: %v, want the status %d", what, err, status)
	}
}

func goBulk(t *testing.T, h *testHub) {
	t.Helper()
	c, ctx := goService(t, h, h.ServiceConnectionString), t.Context()
	devices := []*iotservice.Device{
		{DeviceID: "bulk-1", Tags: map[string]any{"n": 1.0}},
		{DeviceID: "bulk-2", Tags: map[string]any{"n": 2.0}},
	}
	wantDone := func(what string, res *iotservice.BulkResult, err error) {
		t.Helper()
		if err != nil || !res.IsSuccessful {
			t.Fatalf("%s = %+v, %v", what, res, err)
		}
	}
	res, err := c.CreateDevices(ctx, devices)
	wantDone("CreateDevices", res, err)
	res, err = c.UpdateDevices(ctx, devices, true)
	wantDone("UpdateDevices", res, err)
	devices[0].Tags["n"] = 3.0
	res, err = c.UpdateDeviceTwins(ctx, devices, true)
	wantDone("UpdateDeviceTwins", res, err)
	twin, err := c.GetDeviceTwin(ctx, "bulk-1")
	if err != nil || twin.Tags["n"] != 3.0 {
		t.Errorf("GetDeviceTwin = %+v, %v, want the tag 3", twin, err)
	}
	res, err = c.DeleteDevices(ctx, devices[:1], true)
	wantDone("DeleteDevices", res, err)

	res, err = c.CreateDevices(ctx, devices)
	if err != nil {
		t.Fatalf("CreateDevices of which one is there: %v", err)
	}
	want := &iotservice.BulkResult{Errors: []*iotservice.BulkError{{DeviceID: "bulk-2", ErrorCode: 409001, ErrorStatus: "bulk-2"}}, Warnings: []any{}}
	res.Errors[0].ErrorStatus = res.Errors[0].DeviceID // the text is free
	if diff := cmp.Diff(want, res); diff != "" {
		t.Errorf("CreateDevices of which one is there (-want +got):\n%s", diff)
	}
	if _, err := c.GetDevice(ctx, "bulk-1"); err != nil {
		t.Errorf("the other one was not created: %v", err)
	}
}

func goModules(t *testing.T, h *testHub) {
	t.Helper()
	c, ctx := goService(t, h, h.ServiceConnectionString), t.Context()
	made, err := c.CreateModule(ctx, &iotservice.Module{DeviceID: "door-001", ModuleID: "valve", ManagedBy: "me"})
	if err != nil || made.ManagedBy != "me" {
		t.Fatalf("CreateModule = %+v, %v", made, err)
	}
	made.ManagedBy = "you"
	if made, err = c.UpdateModule(ctx, made); err != nil || made.ManagedBy != "you" {
		t.Errorf("UpdateModule = %+v, %v", made, err)
	}
	twin, err := c.UpdateModuleTwin(ctx, &iotservice.ModuleTwin{
		DeviceID: "door-001", ModuleID: "valve", Properties: &iotservice.Properties{Desired: map[string]any{"open": true}},
	})
	if err != nil || twin.Properties.Desired["open"] != true {
		t.Errorf("UpdateModuleTwin = %+v, %v", twin, err)
	}
	list, err := c.ListModules(ctx, "door-001")
	if err != nil || len(list) != 1 || list[0].ModuleID != "valve" {
		t.Errorf("ListModules = %v, %v, want valve", list, err)
	}
	if err = c.DeleteModule(ctx, made); err != nil {
		t.Errorf("DeleteModule: %v", err)
	}
	_, err = c.GetModule(ctx, "door-001", "valve")
	wantStatus(t, "get what was deleted", err, http.StatusNotFound)
	answer, err := c.CallModuleMethod(ctx, "hall", "camera", &iotservice.MethodCall{MethodName: "echo", Payload: map[string]any{"a": "b"}})
	if err != nil || answer.Payload["a"] != "b" {
		t.Errorf("CallModuleMethod = %+v, %v", answer, err)
	}
}

func goTwins(t *testing.T, h *testHub) {
	t.Helper()
	c, ctx := goService(t, h, h.ServiceConnectionString), t.Context()
	first, err := c.GetDeviceTwin(ctx, "door-001")
	if err != nil {
		t.Fatal(err)
	}
	// The client patches with the whole document that it read.
	changed := *first
	changed.Tags = map[string]any{"floor": 9.0, "building": nil}
	changed.Properties = &iotservice.Properties{Desired: map[string]any{"mode": "night"}}
	second, err := c.UpdateDeviceTwin(ctx, &changed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"floor": 9.0}, second.Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if second.Properties.Desired["mode"] != "night" || second.Properties.Desired["locked"] != true || second.ETag == first.ETag {
		t.Errorf("UpdateDeviceTwin = %+v", second)
	}
	_, err = c.UpdateDeviceTwin(ctx, &changed)
	wantStatus(t, "patch with a stale etag", err, http.StatusPreconditionFailed)
	changed.ETag = ""
	if _, err := c.UpdateDeviceTwin(ctx, &changed); err != nil {
		t.Errorf("patch without etag, which the client sends as *: %v", err)
	}
}

func goMethods(t *testing.T, h *testHub) {
	t.Helper()
	c, ctx := goService(t, h, h.ServiceConnectionString), t.Context()
	payload := map[string]any{"lockTime": "10m", "list": []any{1.0, nil}}
	answer, err := c.CallDeviceMethod(ctx, "door-001", &iotservice.MethodCall{MethodName: "echo", Payload: payload, ConnectTimeout: 5, ResponseTimeout: 30})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&iotservice.MethodResult{Status: 200, Payload: payload}, answer); diff != "" {
		t.Errorf("CallDeviceMethod (-want +got):\n%s", diff)
	}
	for id, number := range map[string]string{"nobody": "404001", "gone": "404103"} {
		_, err = c.CallDeviceMethod(ctx, id, &iotservice.MethodCall{MethodName: "echo"})
		wantStatus(t, id, err, http.StatusNotFound)
		if err == nil || !strings.Contains(err.Error(), number) {
			t.Errorf("CallDeviceMethod of %s: %v, want the number %s", id, err, number)
		}
	}
	_, err = c.CallDeviceMethod(ctx, "door-001", &iotservice.MethodCall{MethodName: "echo", ResponseTimeout: 301})
	if _, ok := errors.AsType[*iotservice.BadRequestError](err); !ok {
		t.Errorf("CallDeviceMethod with a timeout of 301 s: %v, want a bad request", err)
	}
}

func goQuery(t *testing.T, h *testHub) {
	t.Helper()
	c, ctx := goService(t, h, h.ServiceConnectionString), t.Context()
	var ids []string
	err := c.QueryDevices(ctx, "SELECT deviceId FROM devices WHERE STARTSWITH(deviceId, 'lamp-')", func(row map[string]any) error {
		ids = append(ids, fmt.Sprint(row["deviceId"]))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	if len(ids) != 250 || len(slices.Compact(ids)) != 250 || ids[0] != "lamp-0001" {
		t.Errorf("QueryDevices gave %d rows, want 250 devices over three pages", len(ids))
	}
}

func goJobs(t *testing.T, h *testHub) {
	t.Helper()
	c, ctx := goService(t, h, h.ServiceConnectionString), t.Context()
	job := func(id string, kind iotservice.JobV2Type, start time.Time) *iotservice.JobV2 {
		return &iotservice.JobV2{JobID: id, Type: kind, QueryCondition: "deviceId IN ['door-001', 'door-002']", StartTime: start, MaxExecutionTimeInSeconds: 60}
	}
	method := job("go-method", iotservice.JobTypeDeviceMethod, time.Now())
	method.CloudToDeviceMethod = &iotservice.DeviceMethodParams{MethodName: "lockDoor", Payload: map[string]any{"a": 1}, TimeoutInSeconds: 30}
	twin := job("go-twin", iotservice.JobTypeUpdateTwin, time.Now())
	twin.UpdateTwin = map[string]any{"etag": "*", "tags": map[string]any{"moved": true}}
	late := job("go-late", iotservice.JobTypeUpdateTwin, time.Now().Add(time.Hour))
	late.UpdateTwin = twin.UpdateTwin
	for _, j := range []*iotservice.JobV2{method, twin, late} {
		if got, err := c.CreateJobV2(ctx, j); err != nil || got.JobID != j.JobID {
			t.Fatalf("CreateJobV2(%s) = %+v, %v", j.JobID, got, err)
		}
	}
	for _, id := range []string{"go-method", "go-twin"} {
		if got := awaitJob(ctx, t, c, id); got.Status != iotservice.JobStatusCompleted {
			t.Errorf("job %s ended as %q", id, got.Status)
		}
	}
	if got := h.executed(t, "door-002"); got.Methods != 1 || got.Patches != 1 {
		t.Errorf("door-002 executed %+v, want one method and one patch", got)
	}
	if got, err := c.CancelJobV2(ctx, "go-late"); err != nil || got.Status != iotservice.JobStatusCancelled {
		t.Errorf("CancelJobV2 = %+v, %v", got, err)
	}
	_, err := c.CancelJobV2(ctx, "go-twin")
	wantStatus(t, "cancel what is over", err, http.StatusMethodNotAllowed)

	states := map[string]iotservice.JobV2Status{}
	err = c.QueryJobsV2(ctx, &iotservice.JobV2Query{Type: iotservice.JobTypeUpdateTwin}, func(j *iotservice.JobV2) error {
		states[j.JobID] = j.Status
		return nil
	})
	want := map[string]iotservice.JobV2Status{"go-twin": iotservice.JobStatusCompleted, "go-late": iotservice.JobStatusCancelled}
	if err != nil || !maps.Equal(states, want) {
		t.Errorf("QueryJobsV2 = %v, %v, want %v", states, err, want)
	}
	if old, err := c.ListJobs(ctx); err != nil || len(old) != 0 {
		t.Errorf("ListJobs = %v, %v, want none", old, err)
	}
}

// awaitJob asks for a job until it has ended.
func awaitJob(ctx context.Context, t *testing.T, c *iotservice.Client, id string) *iotservice.JobV2 {
	t.Helper()
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	for {
		j, err := c.GetJobV2(ctx, id)
		if err != nil {
			t.Fatalf("GetJobV2(%s): %v", id, err)
		}
		if j.Status != iotservice.JobStatusQueued && j.Status != iotservice.JobStatusScheduled && j.Status != iotservice.JobStatusRunning {
			return j
		}
	}
}

func goWrongKey(t *testing.T, h *testHub) {
	t.Helper()
	name, _, _ := strings.Cut(h.ServiceConnectionString, "SharedAccessKey=")
	c := goService(t, h, name+"SharedAccessKey=d3Jvbmc=")
	_, err := c.GetDevice(t.Context(), "door-001")
	wantStatus(t, "a wrong key", err, http.StatusUnauthorized)
	_, err = c.CallDeviceMethod(t.Context(), "door-001", &iotservice.MethodCall{MethodName: "echo"})
	wantStatus(t, "a wrong key", err, http.StatusUnauthorized)
	if got := h.executed(t, "door-001"); got.Methods != 0 {
		t.Errorf("door-001 executed %+v for somebody with a wrong key", got)
	}
}

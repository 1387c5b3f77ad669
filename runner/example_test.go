package runner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// A plan is applied to a hub. The journal is written first, and it is where
// the rows of the report come from.
func ExampleApply() {
	dir, err := os.MkdirTemp("", "runner")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	written, err := journal.Create(filepath.Join(dir, "journal"), journal.Header{Run: "run-1"}, journal.Batch)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer written.Close()

	building := newFakeHub(hub.Target{DeviceID: "door-1"}, hub.Target{DeviceID: "door-2"})
	building.on(opInvoke, "door-2", 0, fault{err: offline()})
	plan := &spec.Plan{Name: "lock", Jobs: []spec.Job{{
		Name: "lock", Type: spec.TypeDirectMethod,
		Target:      spec.Target{Source: spec.SourceDevices, All: true},
		Concurrency: 2, Retry: spec.Retry{Attempts: 2}, Offline: spec.OfflineFail,
		Method: &spec.Method{
			Name: "lockDoor", Payload: json.RawMessage(`{"lockTime":"10m"}`), ResponseTimeout: 30 * time.Second,
			Success: spec.StatusSet{{From: 200, To: 299}},
		},
	}}}
	run, err := runner.Apply(context.Background(), plan, runner.Options{
		Hubs:    []target.NamedHub{{Name: "contoso.example", Hub: building}},
		Journal: written,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	job := run.Report(1).Jobs[0]
	fmt.Println(job.Status, job.Outcomes)
	fmt.Println(job.Reason)
	// Output:
	// failed map[offline:1 succeeded:1]
	// 1 of 2 targets did not succeed
}

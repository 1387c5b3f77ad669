package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/exit"
	"iothub-runner/spec"
)

const bigFleet = `version: 1
devices:
  - idPattern: door-%%05d
    count: %d
    tags: {building: 43}
    shares: {offline: 2%%, rejecting: {share: 1%%, status: 423}}
    methods: {lockDoor: {payload: {ok: true}}}
`

const bigPlan = `version: 1
name: whole-fleet
defaults: {concurrency: 48, retry: {attempts: 1}}
jobs:
  - {name: move, type: updateTwin, target: tags.building = 43, desired: {floor: 3}, tags: {moved: true}}
  - {name: lock, type: directMethod, target: tags.building = 43, method: lockDoor, payload: {lockTime: 10m}}
`

// TestWholeFleet carries two jobs out on a large fleet at once. The report has
// one row for each device of each job, the hub has seen each device once for
// each job, and connections were kept.
func TestWholeFleet(t *testing.T) {
	t.Parallel()
	n := sized(2000, 20_000)
	devices, err := fleet.Parse("fleet.yaml", fmt.Appendf(nil, bigFleet, n))
	if err != nil {
		t.Fatal(err)
	}
	hub, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: devices})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if writeErr := os.WriteFile(path, []byte(text), 0o600); writeErr != nil {
			t.Fatal(writeErr)
		}
		return path
	}
	report := filepath.Join(dir, "report.json")
	code, _, stderr := apply(t, "--ca-file", file("ca.pem", string(hub.CAPEM())), "--report", report, "--durability", "off",
		"--connection-string-file", file("hub.txt", hub.ConnectionString()), file("plan.yaml", bigPlan))
	if code != exit.Missed {
		t.Fatalf("exit code %d, want %d\n%s", code, exit.Missed, stderr)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkReport(text); err != nil {
		t.Fatal(err)
	}
	var rep spec.Report
	if err := json.Unmarshal(text, &rep); err != nil {
		t.Fatal(err)
	}
	want := map[spec.Outcome]int{spec.OutcomeSucceeded: 2*n - n/50 - n/100, spec.OutcomeOffline: n / 50, spec.OutcomeRejected: n / 100}
	for _, o := range spec.Outcomes() {
		if rep.Summary.Outcomes[o] != want[o] {
			t.Errorf("%d rows %s, want %d", rep.Summary.Outcomes[o], o, want[o])
		}
	}
	methods, patches := 0, 0
	for id, e := range hub.EachExecuted {
		if e.Methods > 1 || e.Patches != 1 {
			t.Errorf("device %s executed %+v, want one patch and at most one call", id, e)
		}
		methods, patches = methods+e.Methods, patches+e.Patches
	}
	if methods != n-n/50 || patches != n {
		t.Errorf("the devices executed %d calls and %d patches, want %d and %d", methods, patches, n-n/50, n)
	}
	// There are 96 calls at once, and two listings. A slow machine lets some
	// connections idle out in between.
	if made := hub.Accepted(); made > 2*(96+2) {
		t.Errorf("%d connections for 96 calls at once, want at most two for each", made)
	}
}

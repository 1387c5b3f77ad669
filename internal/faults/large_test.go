package faults_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/spec"
)

const largeFleet = `version: 1
devices:
  - idPattern: once-%%07d
    count: %d
    tags: {role: once}
    shares: {offline: 1%%, rejecting: {share: 1%%, status: 423}}
    methods: {lockDoor: {payload: {door: "${id}"}}}
`

const largePlan = `version: 1
name: large
jobs:
  - {name: once, type: directMethod, target: tags.role = 'once', method: lockDoor, payload: {lockTime: 10m}, concurrency: 64, retry: {attempts: 1}}
`

// TestLargeFleet kills one run over a large fleet when about half of it has
// acted, resumes it, and holds every row against the hub. How long it took is
// logged.
func TestLargeFleet(t *testing.T) {
	t.Parallel()
	size := *largeSize
	devices, err := fleet.Parse("fleet.yaml", fmt.Appendf(nil, largeFleet, size))
	if err != nil {
		t.Fatal(err)
	}
	hub, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: devices})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	p := newProcess(t, hub, largePlan)
	middle := size/3 + rand.IntN(size/3)
	p.killAt(t.Context(), t, instant{acts: middle})
	if p.kills != 1 {
		t.Fatalf("the program ended before the kill: exit code %d\n%s", p.code, p.stderr)
	}
	before := acts(hub)
	p.finish(t.Context(), t)
	if p.code != 1 { // some devices are offline
		t.Errorf("exit code %d, want 1\n%s", p.code, p.stderr)
	}
	counted := checkLarge(t, hub, p.path("report.json"), size)
	if n := counted[spec.OutcomeUnanswered]; n > 64 {
		t.Errorf("%d unanswered after one kill with 64 calls at once", n)
	}
	t.Logf("%d devices: killed after %d calls and %v, resumed and ended in %v; rows %v",
		size, before, p.took[0].Round(time.Millisecond), p.took[1].Round(time.Millisecond), counted)
}

// checkLarge reads the report row by row: it may be too large to be held at
// once.
func checkLarge(tb testing.TB, hub *emulator.Server, path string, size int) map[spec.Outcome]int {
	tb.Helper()
	file, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	counted := map[spec.Outcome]int{}
	rows, wrong := 0, 0
	for in := bufio.NewScanner(file); in.Scan(); {
		line := bytes.TrimSuffix(bytes.TrimSpace(in.Bytes()), []byte(","))
		if !bytes.HasPrefix(line, []byte(`{"deviceId"`)) {
			continue
		}
		var row spec.Row
		if err := json.Unmarshal(line, &row); err != nil {
			tb.Fatal(err)
		}
		rows++
		counted[row.Outcome]++
		what := wrongRow(hub, roleOnce, &row)
		if want := fmt.Sprintf("once-%07d", rows); row.DeviceID != want {
			what = "row " + want + " is missing before it"
		}
		if what == "" {
			continue
		}
		if wrong++; wrong > 20 {
			tb.Fatal("and more")
		}
		tb.Errorf("%s: %s\n%s", row.DeviceID, what, line)
	}
	if rows != size {
		tb.Errorf("%d rows for %d devices", rows, size)
	}
	return counted
}

package faults_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/spec"
)

// shardFleet is the size of the fleet that five shards share: a hundred thousand in
// the long tests.
var shardFleet = flag.Int("shardfleet", 2_000, "devices that TestShards shares among five processes")

// TestShards has five processes at once act on a fifth each of a hub that refuses
// what is beyond its throttles. Together they touch each device once, keep most of
// the hub's rate, and are refused little.
func TestShards(t *testing.T) {
	const shards, units, perSecond = 5, 5, 5 * 40 // method calls a second of five units of S1
	size := *shardFleet
	devices, err := fleet.Parse("fleet.yaml", fmt.Appendf(nil, "version: 1\ndevices: [{idPattern: once-%%06d, count: %d, tags: {role: once}, methods: {lockDoor: {payload: {door: \"${id}\"}}}}]\n", size))
	if err != nil {
		t.Fatal(err)
	}
	hub, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: devices, Tier: "S1", Units: units})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Close() })
	// The devices are named: five listings of a fleet would take the hub longer than
	// the calls.
	plan := fmt.Sprintf("version: 1\nname: shards\nhub: {sku: S1, units: %d}\njobs:\n  - {name: once, type: directMethod, target: {devicesFile: ids.txt}, method: lockDoor}\n", units)
	var ids strings.Builder
	for i := range size {
		fmt.Fprintf(&ids, "once-%06d\n", i+1)
	}
	began := time.Now()
	var runs sync.WaitGroup
	parts := make([]*process, shards)
	for i := range parts {
		parts[i] = newProcess(t, hub, plan, "--shard", fmt.Sprintf("%d/%d", i+1, shards))
		if err := os.WriteFile(parts[i].path("ids.txt"), []byte(ids.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		runs.Go(func() { parts[i].finish(t.Context(), t) })
	}
	runs.Wait()
	took := time.Since(began)
	rows, retries := 0, 0
	for i, p := range parts {
		if p.code != 0 {
			t.Fatalf("shard %d: exit code %d\n%s", i+1, p.code, p.stderr)
		}
		rep := readReport(t, p.path("report.json"))
		if rep.Run.Shard == nil || *rep.Run.Shard != (spec.Shard{Index: i + 1, Of: shards}) {
			t.Errorf("shard %d: its report says %v", i+1, rep.Run.Shard)
		}
		rows, retries = rows+rep.Summary.Targets, retries+rep.Summary.Retries
	}
	if rows != size {
		t.Errorf("%d rows of %d devices", rows, size)
	}
	acted := 0
	for id, e := range hub.EachExecuted {
		if acted++; e.Methods != 1 || !strings.HasPrefix(id, "once-") {
			t.Errorf("%s executed %+v", id, e)
		}
	}
	if acted != size {
		t.Errorf("%d of %d devices were called", acted, size)
	}
	if retries*100 > 2*size {
		t.Errorf("%d of %d calls were refused, want at most 2%%", retries, size)
	}
	t.Logf("%d devices in %v: %.2f of %d calls a second, %d refused", size, took, float64(size)/took.Seconds()/perSecond, perSecond, retries)
}

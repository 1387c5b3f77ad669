package fleet_test

import (
	"testing"
	"time"

	"iothub-runner/internal/emulator/fleet"
)

func TestFaults(t *testing.T) {
	f := mustParse(t, `
devices: [{idPattern: d-%%02d, count: 20}]
faults:
  - {fault: resetAfter, devices: [d-03, d-1*], calls: 2-3, operations: [method]}
  - {fault: throttled, wait: 7s, operations: [twinWrite], from: 10s, until: 20s}
  - {fault: emptyPage, calls: 2}
  - {fault: slow, latency: 3s, operations: [twinRead]}
  - {fault: unavailable, operations: [twinRead]}
  - {fault: throttled, operations: [job]}
`)
	tests := []struct {
		name  string
		call  fleet.Call
		since time.Duration
		want  fleet.Fault
	}{
		{"by id", fleet.Call{Operation: fleet.OpMethod, Device: 2, NthOfDevice: 2}, 0, fleet.Fault{Kind: fleet.FaultResetAfter}},
		{"by prefix", fleet.Call{Operation: fleet.OpMethod, Device: 9, NthOfDevice: 3}, 0, fleet.Fault{Kind: fleet.FaultResetAfter}},
		{"another device", fleet.Call{Operation: fleet.OpMethod, Device: 0, NthOfDevice: 2}, 0, fleet.Fault{}},
		{"another call", fleet.Call{Operation: fleet.OpMethod, Device: 2, NthOfDevice: 4}, 0, fleet.Fault{}},
		{"the device's count, not the hub's", fleet.Call{Operation: fleet.OpMethod, Device: 2, NthOfDevice: 1, NthOfHub: 2}, 0, fleet.Fault{}},
		{"another operation", fleet.Call{Operation: fleet.OpTwinWrite, Device: 2, NthOfDevice: 2}, 0, fleet.Fault{}},
		{"no device", fleet.Call{Operation: fleet.OpMethod, Device: -1, NthOfHub: 2}, 0, fleet.Fault{}},
		{"before its time", fleet.Call{Operation: fleet.OpTwinWrite, Device: 0, NthOfDevice: 1}, 10*time.Second - 1, fleet.Fault{}},
		{"in its time", fleet.Call{Operation: fleet.OpTwinWrite, Device: 0, NthOfDevice: 1}, 10 * time.Second, fleet.Fault{Kind: fleet.FaultThrottled, Wait: 7 * time.Second}},
		{"after its time", fleet.Call{Operation: fleet.OpTwinWrite, Device: 0, NthOfDevice: 1}, 20 * time.Second, fleet.Fault{}},
		{"the second page", fleet.Call{Operation: fleet.OpQuery, Device: -1, NthOfHub: 2}, 0, fleet.Fault{Kind: fleet.FaultEmptyPage}},
		{"the third page", fleet.Call{Operation: fleet.OpQuery, Device: -1, NthOfHub: 3}, 0, fleet.Fault{}},
		{"only queries have pages", fleet.Call{Operation: fleet.OpStatistics, Device: -1, NthOfHub: 2}, 0, fleet.Fault{}},
		{"the first entry wins", fleet.Call{Operation: fleet.OpTwinRead, Device: 0, NthOfDevice: 1}, 0, fleet.Fault{Kind: fleet.FaultSlow, Latency: 3 * time.Second}},
		{"waits 10 s unless told", fleet.Call{Operation: fleet.OpJob, Device: -1, NthOfHub: 1}, 0, fleet.Fault{Kind: fleet.FaultThrottled, Wait: 10 * time.Second}},
	}
	for _, tt := range tests {
		got, ok := f.Fault(tt.call, tt.since)
		if got != tt.want || ok != (tt.want != fleet.Fault{}) {
			t.Errorf("%s: Fault(%+v, %v) = %+v, %t, want %+v", tt.name, tt.call, tt.since, got, ok, tt.want)
		}
	}
}

// A fault on a device's call is drawn by the device and its count: the order of
// calls across devices, which no run repeats, does not matter.
func TestFaultsDoNotDependOnTheOrderOfDevices(t *testing.T) {
	f := mustParse(t, "devices: [{idPattern: d%%d, count: 1000}]\nfaults: [{fault: serverError, share: 20%%}, {fault: unavailable, share: 50%%}]")
	counts := map[fleet.FaultKind]int{}
	for i := range f.Len() {
		a, aok := f.Fault(fleet.Call{Operation: fleet.OpMethod, Device: i, NthOfDevice: 1, NthOfHub: i + 1}, 0)
		b, bok := f.Fault(fleet.Call{Operation: fleet.OpMethod, Device: i, NthOfDevice: 1, NthOfHub: 5000 - i}, 0)
		if a != b || aok != bok {
			t.Errorf("device %d: %v in one order, %v in another", i, a, b)
		}
		counts[a.Kind]++
	}
	for kind, want := range map[fleet.FaultKind]int{fleet.FaultServerError: 200, fleet.FaultUnavailable: 400, "": 400} {
		if got := counts[kind]; got < want-60 || got > want+60 { // standard deviation below 16
			t.Errorf("%q happens %d times, want about %d", kind, got, want)
		}
	}
	hub := 0
	for nth := range 1000 {
		if ft, _ := f.Fault(fleet.Call{Operation: fleet.OpQuery, Device: -1, NthOfHub: nth + 1}, 0); ft.Kind == fleet.FaultServerError {
			hub++
		}
	}
	if hub < 140 || hub > 260 {
		t.Errorf("%d of 1000 queries draw a share of 20%%", hub)
	}
}

package fleet_test

import (
	"testing"
	"time"

	"iothub-runner/internal/emulator/fleet"
)

// A million devices are asked all the time: what they cost is part of the
// promise.
func TestAllocations(t *testing.T) {
	f := costly(t)
	i, _ := f.Index("door-765432")
	payload := []byte(`{"lockTime":"10m"}`)
	tests := []struct {
		name string
		want float64
		run  func()
	}{
		{"Index", 0, func() { f.Index("door-765432") }},
		{"Index of nobody", 0, func() { f.Index("nobody") }},
		{"Online", 0, func() { f.Online(i, time.Minute) }},
		{"ID", 1, func() { f.ID(i) }},
		{"Twin by template", 1, func() { f.Twin(i) }},
		{"Twin by value", 0, func() { f.Twin(0) }},
		{"Invoke by value", 0, func() { f.Invoke(i, "fixed", 3, payload) }},
		{"Invoke by template", 1, func() { f.Invoke(i, "own", 3, payload) }},
		{"Follow", 0, func() { f.Follow(i, 7) }},
		{"Fault", 0, func() { f.Fault(fleet.Call{Operation: fleet.OpMethod, Device: i, NthOfDevice: 1}, 0) }},
		{"Modules", 0, func() { f.Modules(i) }},
	}
	for _, tt := range tests {
		if got := testing.AllocsPerRun(100, tt.run); got != tt.want {
			t.Errorf("%s makes %v allocations, want %v", tt.name, got, tt.want)
		}
	}
}

func costly(tb testing.TB) *fleet.Fleet {
	tb.Helper()
	return mustParse(tb, `
devices:
  - {id: first, tags: {x: 1}, desired: {y: {z: 2}}}
  - idPattern: door-%%06d
    count: 999999
    tags: {building: "${index / 500 + 40}", site: {$oneOf: [Paris, Rome]}, serial: "SN-${number:08x}", id: "${id}"}
    desired: {floor: "${index %% 10}", lockTime: 10m}
    reported: {firmware: {$weighted: [{weight: 9, value: 2.4.1}, {weight: 1, value: 2.4.0}]}}
    shares: {offline: 2%%, late: {share: 5%%, after: {uniform: {from: 1s, to: 9s}}}}
    follow: [{share: 50%%, after: {uniform: {from: 1s, to: 9s}}}]
    methods:
      fixed: {payload: {Response: lockDoor called successfully}, latency: {lognormal: {median: 35ms, p99: 600ms}}}
      own: {payload: {door: "${id}", call: "${nth}", volts: {$random: {from: 3, to: 4, digits: 2}}}}
faults: [{fault: throttled, share: 1%%, devices: ["door-7*"]}]
`)
}

func BenchmarkIndex(b *testing.B) {
	f := costly(b)
	b.ReportAllocs()
	for b.Loop() {
		f.Index("door-765432")
	}
}

func BenchmarkOnline(b *testing.B) {
	f := costly(b)
	b.ReportAllocs()
	for b.Loop() {
		f.Online(765432, time.Minute)
	}
}

func BenchmarkTwin(b *testing.B) {
	f := costly(b)
	b.ReportAllocs()
	for b.Loop() {
		f.Twin(765432)
	}
}

func BenchmarkInvokeByValue(b *testing.B) {
	f := costly(b)
	b.ReportAllocs()
	for b.Loop() {
		f.Invoke(765432, "fixed", 1, nil)
	}
}

func BenchmarkInvokeByTemplate(b *testing.B) {
	f := costly(b)
	b.ReportAllocs()
	for b.Loop() {
		f.Invoke(765432, "own", 1, nil)
	}
}

func BenchmarkFault(b *testing.B) {
	f := costly(b)
	c := fleet.Call{Operation: fleet.OpMethod, Device: 765432, NthOfDevice: 1}
	b.ReportAllocs()
	for b.Loop() {
		f.Fault(c, time.Minute)
	}
}

func BenchmarkParse(b *testing.B) {
	src := read(b, "../../../examples/fleets/million-meters.yaml")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fleet.Parse("f", src); err != nil {
			b.Fatal(err)
		}
	}
}

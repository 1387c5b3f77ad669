package fleet_test

import (
	"testing"

	"iothub-runner/internal/emulator/fleet"
)

func TestSmoke(t *testing.T) {
	f, err := fleet.Parse("f.yaml", []byte(`version: 1
seed: 7
indexLag: 3s
devices:
  - idPattern: door-%06d
    count: 20
    modules: [lock, {id: cam, tags: {x: 1}}]
    tags: {building: "${index / 10 % 2 + 43}", site: {$cycle: [Paris, Rome]}, fw: {$weighted: [{weight: 1, value: a}, {weight: 3, value: b}]}, s: "sn-${number:08x}"}
    desired: {floor: 1}
    shares: {offline: 10%, late: {share: 10%, after: 5s}}
    follow: [{share: 50%, never: true}, {wrong: {floor: -1}, after: 2s, share: 25%}]
    methods:
      lockDoor: {payload: {Response: ok, id: "${id}", got: "${request}", t: "in ${request.lockTime}"}, latency: {lognormal: {median: 20ms, p99: 300ms}}}
faults:
  - {fault: throttled, operations: [method], share: 5%}
`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Len() {
		tw := f.Twin(i)
		t.Log(f.ID(i), string(tw.Tags), string(tw.Desired), tw.Reported, f.Online(i, 0), f.Modules(i), f.Follow(i, 2))
		r := f.Invoke(i, "lockDoor", 1, []byte(`{"lockTime": "10m"}`))
		t.Log(r.Kind, r.Status, string(r.Payload), r.Latency)
	}
}

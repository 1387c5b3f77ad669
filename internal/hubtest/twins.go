package hubtest

import (
	"iothub-runner/internal/hub"
)

func twinCases() []testCase {
	whole := plain("twin-whole")
	whole.Reported = raw(`{"fw":"1.10.2"}`)
	odd := numbered(len(oddIDs()), func(i int) Device { return plain(oddIDs()[i]) })
	return []testCase{
		{"twin/a twin is read with its sections", []Device{whole}, (*probe).twinWhole},
		{"twin/an unknown device", nil, (*probe).twinUnknown},
		{"twin/an unknown module", []Device{plain("twin-gw")}, (*probe).twinUnknownModule},
		{"twin/ids are case-sensitive", []Device{plain("twin-Case")}, (*probe).twinCase},
		{"twin/ids may hold any character that the hub allows", odd, (*probe).twinOddIDs},
		{"twin/a module has a twin of its own", moduleDevices("modtwin"), (*probe).twinModule},
		{"twin/a deleted device is gone at once", []Device{plain("twin-deleted")}, (*probe).twinDeleted},
		{"twin/a disabled device keeps its twin", []Device{plain("twin-disabled")}, (*probe).twinDisabled},
	}
}

// moduleDevices returns a gateway with two modules.
func moduleDevices(suite string) []Device {
	gateway := deviceIn(suite, "gw", "")
	cam, lock := gateway, gateway
	cam.ModuleID, lock.ModuleID = "cam", "lock"
	cam.Desired = raw(`{"fps":25}`)
	return []Device{gateway, cam, lock}
}

// oddIDs use what may stand in an id and means something in a URL.
func oddIDs() []string {
	return []string{"odd#1", "odd?a=b", "odd%2F", "odd+x", "odd(1)!", "odd;,@$'*:._=-"}
}

func (p *probe) twinWhole() {
	twin := p.twin(target("twin-whole"))
	if twin.ETag == "" || twin.Version < 1 {
		p.t.Errorf("etag %q, version %d: want both", twin.ETag, twin.Version)
	}
	p.wantSection("tags", twin.Tags, `{"site":"oslo"}`)
	p.wantSection("desired", twin.Desired, `{"rate":10}`)
	p.wantSection("reported", twin.Reported, `{"fw":"1.10.2"}`)
	if d, r := p.sectionVersion(twin.Desired), p.sectionVersion(twin.Reported); d < 1 || r < 1 {
		p.t.Errorf("$version is %d in desired, %d in reported: both count from 1", d, r)
	}
	if again := p.twin(target("twin-whole")); again.ETag != twin.ETag || again.Version != twin.Version {
		p.t.Errorf("a second read gives etag %q version %d, the first %q %d", again.ETag, again.Version, twin.ETag, twin.Version)
	}
}

func (p *probe) twinUnknown() {
	nobody := target("nobody-has-this-id")
	_, err := p.hub.Twin(p.t.Context(), nobody)
	p.wantError("Twin", err, hub.KindNotFound, 404001)
	_, err = p.hub.PatchTwin(p.t.Context(), nobody, hub.Patch{Tags: raw(`{"a":1}`)}, hub.AnyETag)
	p.wantError("PatchTwin", err, hub.KindNotFound, 404001)
	_, err = p.hub.PatchTwin(p.t.Context(), nobody, hub.Patch{Tags: raw(`{"a":1}`)}, "AAAAAAAAAAE=")
	p.wantError("PatchTwin with an etag", err, hub.KindNotFound, 404001)
	_, err = p.hub.Invoke(p.t.Context(), nobody, hub.Call{Method: "m", ResponseTimeout: minResponse})
	p.wantError("Invoke", err, hub.KindNotFound, 404001)
}

func (p *probe) twinUnknownModule() {
	module := hub.Target{DeviceID: "twin-gw", ModuleID: "no-such-module"}
	_, err := p.hub.Twin(p.t.Context(), module)
	p.wantError("Twin", err, hub.KindNotFound, 404010)
	_, err = p.hub.PatchTwin(p.t.Context(), module, hub.Patch{Tags: raw(`{"a":1}`)}, hub.AnyETag)
	p.wantError("PatchTwin", err, hub.KindNotFound, 404010)
	_, err = p.hub.Invoke(p.t.Context(), module, hub.Call{Method: "m", ResponseTimeout: minResponse})
	p.wantError("Invoke", err, hub.KindNotFound, 404010)
	_, err = p.hub.Twin(p.t.Context(), hub.Target{DeviceID: "nobody-has-this-id", ModuleID: "m"})
	p.wantError("Twin of a module of an unknown device", err, hub.KindNotFound, 0)
}

func (p *probe) twinCase() {
	p.twin(target("twin-Case"))
	_, err := p.hub.Twin(p.t.Context(), target("twin-case"))
	p.wantError("Twin in another case", err, hub.KindNotFound, 404001)
}

func (p *probe) twinOddIDs() {
	for i, id := range oddIDs() {
		p.twin(target(id))
		value := string(rune('a' + i))
		p.patch(target(id), hub.Patch{Tags: raw(`{"letter":"` + value + `"}`)})
		p.wantSection(id, p.twin(target(id)).Tags, `{"site":"oslo","letter":"`+value+`"}`)
	}
}

func (p *probe) twinModule() {
	gateway := target("modtwin-gw")
	cam := hub.Target{DeviceID: "modtwin-gw", ModuleID: "cam"}
	lock := hub.Target{DeviceID: "modtwin-gw", ModuleID: "lock"}
	before := p.twin(gateway)
	p.patch(cam, hub.Patch{Tags: raw(`{"mine":true}`), Desired: raw(`{"fps":30}`)})
	p.wantSection("tags of the module", p.twin(cam).Tags, `{"suite":"modtwin","mine":true}`)
	p.wantSection("desired of the module", p.twin(cam).Desired, `{"fps":30}`)
	p.wantSection("tags of the other module", p.twin(lock).Tags, `{"suite":"modtwin"}`)
	after := p.twin(gateway)
	p.wantSection("tags of the device", after.Tags, `{"suite":"modtwin"}`)
	if after.ETag != before.ETag {
		p.t.Errorf("a patch of the module moved the device's etag from %q to %q", before.ETag, after.ETag)
	}
}

func (p *probe) twinDeleted() {
	p.twin(target("twin-deleted"))
	p.Delete("twin-deleted")
	_, err := p.hub.Twin(p.t.Context(), target("twin-deleted"))
	p.wantError("Twin", err, hub.KindNotFound, 404001)
	_, err = p.hub.PatchTwin(p.t.Context(), target("twin-deleted"), hub.Patch{Tags: raw(`{"a":1}`)}, hub.AnyETag)
	p.wantError("PatchTwin", err, hub.KindNotFound, 404001)
}

func (p *probe) twinDisabled() {
	p.SetEnabled("twin-disabled", false)
	p.patch(target("twin-disabled"), hub.Patch{Tags: raw(`{"site":"rome"}`)})
	p.wantSection("tags", p.twin(target("twin-disabled")).Tags, `{"site":"rome"}`)
}

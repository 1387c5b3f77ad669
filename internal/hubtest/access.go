package hubtest

import (
	"context"
	"fmt"
	"strings"

	"iothub-runner/internal/hub"
)

func accessCases() []testCase {
	device := func(id string) []Device {
		d := plain(id)
		d.Methods = []Method{{Name: "echo", Does: Echoes, Status: 200}}
		return []Device{d}
	}
	return []testCase{
		{"access/a wrong key is refused everywhere, without effect", device("access-wrong"), func(p *probe) {
			p.refusesAll(WrongKey, "access-wrong")
		}},
		{"access/a policy without ServiceConnect is refused everywhere", device("access-reader"), func(p *probe) {
			p.refusesAll(RegistryReader, "access-reader")
		}},
		{"access/ServiceConnect is enough for the runner", device("access-service"), (*probe).serviceSuffices},
		{"access/an ended context sends nothing", device("access-ended"), (*probe).endedContext},
	}
}

// everyCall makes each of the four calls once.
func everyCall(ctx context.Context, h Hub, id string) map[string]error {
	errs := map[string]error{}
	_, errs["query"] = h.Query(ctx, hub.Query{Text: "SELECT deviceId FROM devices WHERE deviceId = '" + id + "'"})
	_, errs["twin"] = h.Twin(ctx, target(id))
	_, errs["patch"] = h.PatchTwin(ctx, target(id), hub.Patch{Tags: raw(`{"touched":true}`)}, hub.AnyETag)
	_, errs["invoke"] = h.Invoke(ctx, target(id), hub.Call{Method: "echo", ResponseTimeout: minResponse})
	return errs
}

func (p *probe) refusesAll(c Credentials, id string) {
	for op, err := range everyCall(p.t.Context(), p.Hub(c), id) {
		p.wantError(op, err, hub.KindUnauthorized, 0)
		if text := fmt.Sprint(err); strings.Contains(text, "sig=") {
			p.t.Errorf("%s: the error shows a signature: %s", op, text)
		}
	}
	p.wantSection("after refused calls", p.twin(target(id)).Tags, `{"site":"oslo"}`)
}

func (p *probe) serviceSuffices() {
	for op, err := range everyCall(p.t.Context(), p.Hub(Service), "access-service") {
		if err != nil {
			p.t.Errorf("%s: %v", op, err)
		}
	}
}

func (p *probe) endedContext() {
	ctx, cancel := context.WithCancel(p.t.Context())
	cancel()
	for op, err := range everyCall(ctx, p.hub, "access-ended") {
		p.wantError(op, err, hub.KindCancelled, 0)
	}
	p.wantSection("after calls that were not made", p.twin(target("access-ended")).Tags, `{"site":"oslo"}`)
}

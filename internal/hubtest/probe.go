package hubtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/hub"
)

// probe is one case under way: the hub, and what the cases need to ask it.
type probe struct {
	t *testing.T
	Harness

	hub Hub // as its owner
}

// deviceIn returns a device that queries find under the name of its case.
func deviceIn(suite, id, tags string) Device {
	return Device{
		Target: hub.Target{DeviceID: suite + "-" + id},
		Tags:   json.RawMessage(`{"suite":"` + suite + `"` + tags + `}`),
	}
}

// plain returns a device with one tag and one desired property.
func plain(id string) Device {
	return Device{
		Target:  hub.Target{DeviceID: id},
		Tags:    json.RawMessage(`{"site":"oslo"}`),
		Desired: json.RawMessage(`{"rate":10}`),
	}
}

func target(id string) hub.Target { return hub.Target{DeviceID: id} }

func raw(text string) json.RawMessage { return json.RawMessage(text) }

// twin reads a twin, or ends the case.
func (p *probe) twin(t hub.Target) hub.Twin {
	p.t.Helper()
	twin, err := p.hub.Twin(p.t.Context(), t)
	if err != nil {
		p.t.Fatalf("Twin(%s): %v", t, err)
	}
	return twin
}

// patch patches a twin in any case, or ends the case.
func (p *probe) patch(t hub.Target, patch hub.Patch) hub.Twin {
	p.t.Helper()
	twin, err := p.hub.PatchTwin(p.t.Context(), t, patch, hub.AnyETag)
	if err != nil {
		p.t.Fatalf("PatchTwin(%s, %s%s): %v", t, patch.Tags, patch.Desired, err)
	}
	return twin
}

// wantError checks that err is a [*hub.Error] of the kind, with the hub's
// number unless that is 0.
func (p *probe) wantError(what string, err error, kind hub.Kind, code int) {
	p.t.Helper()
	e, ok := errors.AsType[*hub.Error](err)
	switch {
	case err == nil:
		p.t.Errorf("%s: no error, want %s %d", what, kind, code)
	case !ok:
		p.t.Errorf("%s: error %v is not a *hub.Error", what, err)
	case e.Kind != kind:
		p.t.Errorf("%s: error of kind %s (%v), want %s", what, e.Kind, e, kind)
	case code != 0 && e.Code != code:
		p.t.Errorf("%s: error code %d (%v), want %d", what, e.Code, e, code)
	case code != 0 && (e.StatusCode != code/1000 || e.Name == ""):
		p.t.Errorf("%s: HTTP status %d, name %q; want %d and a name", what, e.StatusCode, e.Name, code/1000)
	}
}

// wantSection checks a section of a twin, apart from what the hub keeps in it.
func (p *probe) wantSection(what string, got json.RawMessage, want string) {
	p.t.Helper()
	g, w := decodeSection(p.t, got), decodeSection(p.t, raw(want))
	if !reflect.DeepEqual(g, w) {
		p.t.Errorf("%s: section is %s, want %s", what, got, want)
	}
}

// decodeSection reads an object without its system keys; numbers stay text.
func decodeSection(tb testing.TB, section json.RawMessage) map[string]any {
	tb.Helper()
	m := map[string]any{}
	if section == nil {
		return m
	}
	d := json.NewDecoder(bytes.NewReader(section))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		tb.Fatalf("section %s: %v", section, err)
	}
	for key := range m {
		if strings.HasPrefix(key, "$") {
			delete(m, key)
		}
	}
	return m
}

// sectionVersion returns the $version of a section.
func (p *probe) sectionVersion(section json.RawMessage) int64 {
	p.t.Helper()
	var s struct {
		Version *int64 `json:"$version"`
	}
	if err := json.Unmarshal(section, &s); err != nil || s.Version == nil {
		p.t.Fatalf("section %s has no $version (%v)", section, err)
	}
	return *s.Version
}

// maxPages bounds the loop over a query's pages: a hub that never ends one
// must fail, not hang.
const maxPages = 1000

// rows reads all pages of a query. Rows may come twice: nothing keeps a page
// still while its neighbours change.
func (p *probe) rows(text string, pageSize int) []hub.Row {
	p.t.Helper()
	rows := []hub.Row{}
	q := hub.Query{Text: text, PageSize: pageSize}
	for range maxPages {
		page, err := p.hub.Query(p.t.Context(), q)
		if err != nil {
			p.t.Fatalf("Query(%s): %v", text, err)
		}
		if pageSize > 0 && len(page.Rows) > pageSize {
			p.t.Errorf("Query(%s): page of %d rows, asked for %d", text, len(page.Rows), pageSize)
		}
		for _, r := range page.Rows {
			if !slices.ContainsFunc(rows, func(o hub.Row) bool { return o.Target == r.Target }) {
				rows = append(rows, r)
			}
		}
		if page.Continuation == "" {
			return rows
		}
		q.Continuation = page.Continuation
	}
	p.t.Fatalf("Query(%s): not at its end after %d pages", text, maxPages)
	return nil
}

// ids returns the targets that a query finds, sorted.
func (p *probe) ids(text string, pageSize int) []string {
	p.t.Helper()
	ids := []string{}
	for _, r := range p.rows(text, pageSize) {
		ids = append(ids, r.String())
	}
	slices.Sort(ids)
	return ids
}

// The bounds of waiting for a hub whose clock cannot be moved.
const (
	patience  = 2 * time.Minute
	breath    = 10 * time.Millisecond
	perBreath = 200 * time.Millisecond
)

// during lets the hub's time pass until f returns, or the patience ends. It
// gives f's answer.
func during[T any](p *probe, f func() T) T {
	p.t.Helper()
	done := make(chan T, 1)
	go func() { done <- f() }() // ends with its call, which the hub or the client's own limit ends
	tick := time.NewTicker(breath)
	defer tick.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case v := <-done:
			return v
		case <-tick.C:
			p.Pass(perBreath)
		case <-limit.C:
			p.t.Fatalf("no answer after %v", patience)
		}
	}
}

// eventually asks until ok says yes: the query index lags behind writes.
func (p *probe) eventually(what string, ok func() bool) {
	p.t.Helper()
	tick := time.NewTicker(breath)
	defer tick.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
			p.Pass(perBreath)
		case <-limit.C:
			p.t.Fatalf("%s: not so after %v", what, patience)
		}
	}
}

// result is a method's answer or its error.
type result struct {
	answer hub.Answer
	err    error
}

// invoke calls a method while the hub's time passes.
func (p *probe) invoke(t hub.Target, c hub.Call) result {
	p.t.Helper()
	if c.ResponseTimeout == 0 {
		c.ResponseTimeout = 30 * time.Second
	}
	return during(p, func() result {
		answer, err := p.hub.Invoke(p.t.Context(), t, c)
		return result{answer, err}
	})
}

// wantAnswer checks an answer; the payload is compared as compact JSON text.
func (p *probe) wantAnswer(what string, r result, status int, payload string) {
	p.t.Helper()
	if r.err != nil {
		p.t.Errorf("%s: %v", what, r.err)
		return
	}
	var got bytes.Buffer
	if err := json.Compact(&got, r.answer.Payload); err != nil {
		p.t.Errorf("%s: payload %q: %v", what, r.answer.Payload, err)
		return
	}
	if r.answer.Status != status || got.String() != payload {
		p.t.Errorf("%s: answer %d %s, want %d %s", what, r.answer.Status, got.Bytes(), status, payload)
	}
}

// numbered makes n devices of one kind.
func numbered(n int, device func(i int) Device) []Device {
	devices := make([]Device, n)
	for i := range devices {
		devices[i] = device(i)
	}
	return devices
}

func selectIn(suite, projection string) string {
	return fmt.Sprintf("SELECT %s FROM devices WHERE tags.suite = '%s'", projection, suite)
}

package runner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
)

// operation is what a call to the fake asks for.
type operation string

const (
	opPreflight operation = "preflight"
	opQuery     operation = "query"
	opRead      operation = "read"
	opPatch     operation = "patch"
	opInvoke    operation = "invoke"
)

// call is one call that the fake received, in the order of arrival.
type call struct {
	op       operation
	target   hub.Target
	nth      int    // of this operation, and method, on this target; from 1
	name     string // of the method
	payload  json.RawMessage
	query    hub.Query
	sent     hub.Patch
	ifMatch  string
	began    time.Duration // since the fake was made
	ended    time.Duration
	executed bool
	err      *hub.Error
}

// fault is what becomes of a call instead of success.
type fault struct {
	err   *hub.Error
	acts  bool          // the effect takes place all the same
	takes time.Duration // on top of what the operation takes
	hook  func()        // called when the call arrives
	// before lets somebody else write the twin just before a patch does.
	before func(*fakeTwin)
}

type faultKey struct {
	op  operation
	id  string // "device" or "device/module"; empty for every one
	nth int    // 0 for every one
}

// fakeHub is a hub in memory whose every call can be made to go wrong. The
// effect of a call takes place when it arrives, its answer takes time.
type fakeHub struct {
	target.JobHub
	begin    time.Time
	pageSize int
	takes    map[operation]time.Duration
	match    map[string]func(hub.Target) bool // what a WHERE condition selects
	answer   func(c call) hub.Answer
	chaos    func(c call) (fault, bool)
	arrived  func(c call) // the test's own check of an effect about to happen
	pages    []hub.Page   // served in order instead of the twins, if set
	quiet    bool         // keep no record of calls
	quick    bool         // devices report before a patch is answered
	matchIDs bool         // understand deviceId IN [...] as well
	heard    map[string]time.Time
	replies  []hub.Page // to queries, in turn and as they are, whatever is asked
	// follow is what a device reports some time after a patch or a call; nil for
	// nothing.
	follow func(t hub.Target, desired json.RawMessage) (json.RawMessage, time.Duration)

	mu       sync.Mutex
	order    []hub.Target
	twins    map[hub.Target]*fakeTwin
	index    map[hub.Target]fakeTwin // what queries see; nil is the twins themselves
	faults   map[faultKey]fault
	counts   map[string]int
	executed map[string]int
	inFlight map[operation]int
	peak     map[operation]int
	calls    []*call
}

type fakeTwin struct {
	version       int64
	desired, tags json.RawMessage
	desiredAt     time.Time
	reported      map[string]json.RawMessage
	reportedAt    map[string]time.Time
	reports       int64 // the version of reported
}

// section is reported or desired as the hub shows it.
func section(values map[string]json.RawMessage, at map[string]time.Time, version int64) json.RawMessage {
	metadata := map[string]any{}
	last := time.Time{}
	for key, t := range at {
		metadata[key] = map[string]any{"$lastUpdated": t.UTC().Format(time.RFC3339Nano)}
		if t.After(last) {
			last = t
		}
	}
	metadata["$lastUpdated"] = last.UTC().Format(time.RFC3339Nano)
	all := map[string]any{"$metadata": metadata, "$version": version}
	for key, value := range values {
		all[key] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return text
}

// shown is the twin as the hub shows it.
func (t fakeTwin) shown() hub.Twin {
	now := hub.Twin{ETag: t.etag(), Version: t.version, Tags: t.tags, Desired: t.desired}
	now.Reported = section(t.reported, t.reportedAt, t.reports)
	if !t.desiredAt.IsZero() {
		values := map[string]json.RawMessage{}
		if err := json.Unmarshal(t.desired, &values); err != nil {
			panic(err)
		}
		delete(values, "$version")
		now.Desired = section(values, map[string]time.Time{"": t.desiredAt}, t.version)
	}
	return now
}

// report writes what a device reports.
func (h *fakeHub) report(t hub.Target, patch json.RawMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reportLocked(t, patch)
}

func (h *fakeHub) reportLocked(t hub.Target, patch json.RawMessage) {
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(patch, &values); err != nil {
		panic(err)
	}
	twin := h.twins[t]
	for key, value := range values {
		if twin.reported == nil {
			twin.reported, twin.reportedAt = map[string]json.RawMessage{}, map[string]time.Time{}
		}
		twin.reported[key], twin.reportedAt[key] = value, time.Now()
	}
	twin.reports++
}

// followed lets a device report in its own time.
func (h *fakeHub) followed(t hub.Target, desired json.RawMessage) {
	if h.follow == nil || h.quick {
		return
	}
	patch, after := h.follow(t, desired)
	if patch != nil {
		time.AfterFunc(after, func() { h.report(t, patch) })
	}
}

func (t fakeTwin) etag() string { return "etag-" + strconv.FormatInt(t.version, 10) }

func newFakeHub(targets ...hub.Target) *fakeHub {
	h := &fakeHub{
		begin: time.Now(), pageSize: 100, order: targets,
		takes: map[operation]time.Duration{}, match: map[string]func(hub.Target) bool{},
		twins: make(map[hub.Target]*fakeTwin, len(targets)), faults: map[faultKey]fault{},
		counts: map[string]int{}, executed: map[string]int{},
		inFlight: map[operation]int{}, peak: map[operation]int{},
	}
	for _, t := range targets {
		h.twins[t] = &fakeTwin{version: 1, desired: json.RawMessage(`{"$version":1}`), tags: json.RawMessage(`{}`)}
	}
	return h
}

// on makes the nth call of an operation on a target go wrong; 0 is every call.
func (h *fakeHub) on(op operation, id string, nth int, f fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[faultKey{op, id, nth}] = f
}

// set writes a twin from outside, as another service would.
func (h *fakeHub) set(id, desired, tags string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.twins[hub.Target{DeviceID: id}]
	t.version++
	t.desired, t.tags = json.RawMessage(desired), json.RawMessage(tags)
}

// freezeIndex makes every later query answer as of now.
func (h *fakeHub) freezeIndex() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.index = make(map[hub.Target]fakeTwin, len(h.twins))
	for t, twin := range h.twins {
		h.index[t] = *twin
	}
}

// arrive records a call and says what is to become of it.
func (h *fakeHub) arrive(ctx context.Context, c *call) (fault, error) {
	if ctx.Err() != nil {
		return fault{}, &hub.Error{Kind: hub.KindCancelled, Message: "cancelled before it was sent", Err: ctx.Err()}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := countKey(c.op, c.name, c.target)
	if !h.quiet {
		h.counts[key]++
		c.nth = h.counts[key]
		h.calls = append(h.calls, c)
	}
	c.began = time.Since(h.begin)
	h.inFlight[c.op]++
	h.peak[c.op] = max(h.peak[c.op], h.inFlight[c.op])
	f := h.faultLocked(c)
	c.executed = f.err == nil || f.acts
	if c.executed && !h.quiet {
		h.executed[key]++
	}
	return f, nil
}

func countKey(op operation, name string, t hub.Target) string {
	return string(op) + " " + name + " " + t.String()
}

func (h *fakeHub) faultLocked(c *call) fault {
	id := c.target.String()
	for _, key := range []faultKey{{c.op, id, c.nth}, {c.op, id, 0}, {c.op, "", c.nth}, {c.op, "", 0}} {
		if f, ok := h.faults[key]; ok {
			return f
		}
	}
	if h.chaos != nil {
		if f, ok := h.chaos(*c); ok {
			return f
		}
	}
	return fault{}
}

// leave lets the call's time pass and ends it.
func (h *fakeHub) leave(ctx context.Context, c *call, f fault) error {
	if f.hook != nil {
		f.hook()
	}
	err := f.err
	if d := h.takes[c.op] + f.takes; d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			err = &hub.Error{Kind: hub.KindCut, Message: "cut off", Err: ctx.Err()}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inFlight[c.op]--
	c.ended = time.Since(h.begin)
	c.err = err
	if err != nil {
		return err
	}
	return nil
}

// Query serves pages of twins as the index shows them.
func (h *fakeHub) Query(ctx context.Context, q hub.Query) (hub.Page, error) {
	c := &call{op: opQuery, query: q}
	if q.PageSize == 1 {
		c.op = opPreflight
	}
	f, err := h.arrive(ctx, c)
	if err != nil {
		return hub.Page{}, err
	}
	if err := h.leave(ctx, c, f); err != nil {
		return hub.Page{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pages != nil && c.op == opQuery {
		return h.scriptedLocked(q)
	}
	if len(h.replies) > 0 && c.op == opQuery {
		p := h.replies[0]
		h.replies = h.replies[1:]
		return p, nil
	}
	return h.pageLocked(q)
}

func (h *fakeHub) scriptedLocked(q hub.Query) (hub.Page, error) {
	n, _ := strconv.Atoi(q.Continuation)
	p := h.pages[n]
	if n+1 < len(h.pages) {
		p.Continuation = strconv.Itoa(n + 1)
	}
	return p, nil
}

func (h *fakeHub) pageLocked(q hub.Query) (hub.Page, error) {
	head, where, _ := strings.Cut(q.Text, " WHERE ")
	selects := h.match[where]
	if ids, ok := strings.CutPrefix(where, "deviceId IN ["); ok && h.matchIDs {
		list := strings.Split(strings.TrimSuffix(ids, "]"), ",")
		selects = func(t hub.Target) bool {
			return slices.Contains(list, "'"+strings.ReplaceAll(t.DeviceID, "'", `\'`)+"'")
		}
	}
	if selects == nil && where != "" {
		return hub.Page{}, &hub.Error{Kind: hub.KindInvalid, Code: 400004, StatusCode: 400, Message: "bad query " + where}
	}
	modules := strings.HasSuffix(head, "FROM devices.modules")
	at, _ := strconv.Atoi(q.Continuation)
	var p hub.Page
	for ; at < len(h.order) && len(p.Rows) < min(q.PageSize, h.pageSize); at++ {
		t := h.order[at]
		if (t.ModuleID != "") != modules || selects != nil && !selects(t) {
			continue
		}
		p.Rows = append(p.Rows, h.rowLocked(t, head))
	}
	if at < len(h.order) {
		p.Continuation = strconv.Itoa(at)
	}
	return p, nil
}

// rowLocked holds the columns that were selected and nothing else.
func (h *fakeHub) rowLocked(t hub.Target, head string) hub.Row {
	twin := *h.twins[t]
	if h.index != nil {
		twin = h.index[t]
	}
	row := hub.Row{Target: t}
	if strings.Contains(head, "etag") {
		row.ETag = twin.etag()
	}
	if strings.Contains(head, "lastActivityTime") {
		row.Seen = h.heard[t.DeviceID]
	}
	if strings.Contains(head, "tags") {
		row.Tags = twin.tags
	}
	if strings.Contains(head, "properties.desired AS desired") {
		row.Desired = twin.desired
	}
	if strings.Contains(head, "properties.reported AS reported") {
		row.Reported = twin.shown().Reported
	}
	return row
}

// Twin reads a twin past the index.
func (h *fakeHub) Twin(ctx context.Context, t hub.Target) (hub.Twin, error) {
	c := &call{op: opRead, target: t}
	f, err := h.arrive(ctx, c)
	if err != nil {
		return hub.Twin{}, err
	}
	h.mu.Lock()
	twin, known := h.twins[t]
	var now hub.Twin
	if known {
		now = twin.shown()
	}
	h.mu.Unlock()
	if !known && f.err == nil {
		f.err = notFound()
	}
	return now, h.leave(ctx, c, f)
}

// PatchTwin merges a patch if the etag is that of the twin.
func (h *fakeHub) PatchTwin(ctx context.Context, t hub.Target, p hub.Patch, ifMatch string) (hub.Twin, error) {
	c := &call{op: opPatch, target: t, sent: p, ifMatch: ifMatch}
	f, err := h.arrive(ctx, c)
	if err != nil {
		return hub.Twin{}, err
	}
	if h.arrived != nil {
		h.arrived(*c)
	}
	var now hub.Twin
	if c.executed {
		h.mu.Lock()
		if f.before != nil {
			f.before(h.twins[t])
		}
		now, err = h.mergeLocked(t, p, ifMatch)
		if err != nil {
			c.executed = false
			h.executed[countKey(c.op, "", t)]--
			f.err = asError(err)
		}
		h.mu.Unlock()
		if err == nil && p.Desired != nil {
			h.followed(t, p.Desired)
		}
	}
	return now, h.leave(ctx, c, f)
}

func (h *fakeHub) mergeLocked(t hub.Target, p hub.Patch, ifMatch string) (hub.Twin, error) {
	twin, ok := h.twins[t]
	if !ok {
		return hub.Twin{}, notFound()
	}
	if ifMatch != hub.AnyETag && ifMatch != twin.etag() {
		return hub.Twin{}, &hub.Error{
			Kind: hub.KindPrecondition, Code: 412001, Name: "PreconditionFailed", StatusCode: 412,
			Message: "the twin is at " + twin.etag(),
		}
	}
	for _, s := range []struct {
		section *json.RawMessage
		patch   json.RawMessage
	}{{&twin.desired, p.Desired}, {&twin.tags, p.Tags}} {
		if s.patch == nil {
			continue
		}
		merged, err := jsonpatch.MergePatch(*s.section, s.patch)
		if err != nil {
			return hub.Twin{}, &hub.Error{Kind: hub.KindInvalid, StatusCode: 400, Message: err.Error()}
		}
		*s.section = merged
	}
	twin.version++
	if !p.Whole {
		return hub.Twin{ETag: twin.etag(), Version: twin.version}, nil
	}
	if p.Desired != nil {
		twin.desiredAt = time.Now()
	}
	if h.quick {
		if patch, _ := h.follow(t, p.Desired); patch != nil {
			h.reportLocked(t, patch)
		}
	}
	return twin.shown(), nil
}

// Invoke lets the device answer.
func (h *fakeHub) Invoke(ctx context.Context, t hub.Target, m hub.Call) (hub.Answer, error) {
	c := &call{op: opInvoke, target: t, name: m.Method, payload: m.Payload}
	f, err := h.arrive(ctx, c)
	if err != nil {
		return hub.Answer{}, err
	}
	if h.arrived != nil {
		h.arrived(*c)
	}
	h.mu.Lock()
	_, known := h.twins[t]
	if !known && f.err == nil {
		f.err = notFound()
		c.executed = false
		h.executed[countKey(c.op, c.name, t)]--
	}
	h.mu.Unlock()
	if c.executed && known {
		h.followed(t, nil)
	}
	if err := h.leave(ctx, c, f); err != nil {
		return hub.Answer{}, err
	}
	if h.answer != nil {
		return h.answer(*c), nil
	}
	return hub.Answer{Status: 200, Payload: json.RawMessage(`{"ok":true}`)}, nil
}

var _ target.Hub = (*fakeHub)(nil)

func asError(err error) *hub.Error {
	e, ok := err.(*hub.Error) //nolint:errorlint // made in this file, never wrapped
	if !ok {
		panic(fmt.Sprintf("the fake made an error of its own: %v", err))
	}
	return e
}

// of returns the calls of an operation on a target, in the order of arrival; an
// empty id stands for every target.
func (h *fakeHub) of(op operation, id string) []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []call
	for _, c := range h.calls {
		if c.op == op && (id == "" || c.target.String() == id) {
			found = append(found, *c)
		}
	}
	return found
}

// starts returns when the calls of an operation on a target arrived.
func (h *fakeHub) starts(op operation, id string) []time.Duration {
	var at []time.Duration
	for _, c := range h.of(op, id) {
		at = append(at, c.began)
	}
	return at
}

// ran returns how often a method was carried out on a device.
func (h *fakeHub) ran(method string, t hub.Target) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.executed[countKey(opInvoke, method, t)]
}

// patched returns how many patches of a twin took effect.
func (h *fakeHub) patched(t hub.Target) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.executed[countKey(opPatch, "", t)]
}

// asked returns how many calls of an operation on a target arrived.
func (h *fakeHub) asked(op operation, name string, t hub.Target) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[countKey(op, name, t)]
}

// The refusals of a hub, in its own words.

func notFound() *hub.Error {
	return &hub.Error{Kind: hub.KindNotFound, Code: 404001, Name: "DeviceNotFound", StatusCode: 404, Message: "no such device"}
}

func offline() *hub.Error {
	return &hub.Error{Kind: hub.KindOffline, Code: 404103, Name: "DeviceNotOnline", StatusCode: 404, TrackingID: "t-1", Message: "not online"}
}

func throttled(wait time.Duration) *hub.Error {
	return &hub.Error{Kind: hub.KindThrottled, Code: 429001, StatusCode: 429, Message: "too much", Wait: wait}
}

func noAnswer() *hub.Error {
	return &hub.Error{Kind: hub.KindNoAnswer, Code: 504101, Name: "GatewayTimeout", StatusCode: 504, Message: "timed out"}
}

func serverError() *hub.Error {
	return &hub.Error{Kind: hub.KindServer, Code: 500001, StatusCode: 500, Message: "server error"}
}

func unauthorized() *hub.Error {
	return &hub.Error{Kind: hub.KindUnauthorized, Code: 401003, StatusCode: 401, Message: "not authorized"}
}

func kind(k hub.Kind) *hub.Error { return &hub.Error{Kind: k, Message: "scripted " + k.String()} }

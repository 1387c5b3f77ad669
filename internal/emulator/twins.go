package emulator

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/fleet"
)

// This file follows "Understand and use device twins in IoT Hub", section
// "Back-end operations", and the service's REST reference for twins.

// getTwin serves GET of /twins/{id} and of a module's twin.
func (x *exchange) getTwin() *apiError {
	m, refusal := x.reach()
	if refusal != nil {
		return refusal
	}
	return x.sendTwin(m)
}

// changeTwin serves PATCH and PUT.
func (x *exchange) changeTwin() *apiError {
	body, refusal := x.jsonBody(maxTwinBody)
	if refusal != nil {
		return refusal
	}
	w, refusal := parseTwinWrite(body, apiVersion(x.r.URL.RawQuery) != versionBeforeArr)
	if refusal != nil {
		return refusal
	}
	w.replace = x.route.op == opPutTwin
	if refusal = w.refuseNulls(); refusal != nil {
		return refusal
	}
	x.completeWrite(&w)
	w.condition = ifMatch(x.r)
	m, refusal := x.store.look(x.route.device, x.route.module)
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(m.device, 1); refusal != nil {
		return refusal
	}
	if m, refusal = x.writeTwin(m.id, m.moduleID(), w); refusal != nil {
		return refusal
	}
	return x.sendTwin(m)
}

func (x *exchange) sendTwin(m subject) *apiError {
	x.etag = etagText(x.store.stored(m).etag)
	x.buf = x.appendTwin(x.buf[:0], m)
	if m.mod == nil && apiVersion(x.r.URL.RawQuery) == version2024 {
		x.buf = append(x.buf[:len(x.buf)-1], `,"attributes":`...)
		x.buf = append(append(x.buf, x.identityOf(m).attributesText()...), '}')
	}
	return x.done(200)
}

// twinWrite is what a service asks to change of a twin.
type twinWrite struct {
	condition condition
	replace   bool // PUT: the sections are replaced, not merged
	tags      sectionWrite
	desired   sectionWrite
	text      []byte // of desired, as the device is told
}

// sectionWrite is what a service asks to change of one section.
type sectionWrite struct {
	doc     *node // nil: nothing
	replace bool
	null    bool // the body mentions the section as null
}

// refuseNulls refuses a replacement that says null of a key: there is nothing to
// delete from what is new as a whole.
func (w *twinWrite) refuseNulls() *apiError {
	if !w.replace {
		return nil
	}
	for _, sec := range []struct {
		name string
		doc  *node
	}{{"tags", w.tags.doc}, {"properties.desired", w.desired.doc}} {
		if sec.doc == nil {
			continue
		}
		if key := sec.doc.nullKey(); key != "" {
			return errArgument("The '%s' of the twin hold the key '%s', which cannot be null when the twin is replaced.", sec.name, key)
		}
	}
	return nil
}

// completeWrite settles what the body leaves open: sections that are missing
// or null.
func (s *Server) completeWrite(w *twinWrite) {
	for _, sec := range []*sectionWrite{&w.tags, &w.desired} {
		if sec.doc != nil {
			sec.replace = w.replace
			continue
		}
		if sec.null && s.does(knobNullSection, "clear") || w.replace && !sec.null && s.does(knobPutMissingSection, "clear") {
			sec.doc, sec.replace = &node{object: true}, true
		}
	}
	if w.desired.doc != nil {
		w.text = w.desired.doc.appendPatch(nil)
	}
}

// withNulls returns the text of a replacement as a patch: what it leaves out of
// the section before is null.
func (w sectionWrite) withNulls(before section) []byte {
	old := before.tree()
	doc := w.doc.against(&old)
	return doc.appendPatch(nil)
}

// against returns an object with null for each key that only the old one has.
func (n *node) against(old *node) node {
	doc := *n
	doc.kids = slices.Clone(n.kids)
	for i := range old.kids {
		was := &old.kids[i]
		switch at := doc.find(was.key); {
		case at < 0:
			doc.kids = append(doc.kids, node{key: was.key, null: true})
		case was.object && doc.kids[at].object:
			doc.kids[at] = doc.kids[at].against(was)
		}
	}
	return doc
}

// parseTwinWrite reads a body. Only tags and properties.desired can be written
// by services; what else stands there was read and is sent back, and ignored.
func parseTwinWrite(body []byte, arrays bool) (twinWrite, *apiError) {
	var w twinWrite
	var refusal *apiError
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		switch {
		case is(k.Str, "tags"):
			refusal = w.tags.read("tags", v, arrays)
		case is(k.Str, "desired"):
			refusal = errArgument("The twin has no member 'desired' of its own; it belongs into 'properties'.")
		case is(k.Str, "properties") && v.Type != gjson.Null:
			if !v.IsObject() {
				refusal = errArgument("The 'properties' of the twin must be a JSON object.")
			}
			v.ForEach(func(k, v gjson.Result) bool {
				if is(k.Str, "desired") {
					refusal = w.desired.read("properties.desired", v, arrays)
				}
				return refusal == nil
			})
		}
		return refusal == nil
	})
	return w, refusal
}

func (w *sectionWrite) read(name string, v gjson.Result, arrays bool) *apiError {
	if v.Type == gjson.Null {
		*w = sectionWrite{null: true}
		return nil
	}
	n, refusal := patchReader{name: name, arrays: arrays}.read(v)
	*w = sectionWrite{doc: &n}
	return refusal
}

// appendPatch writes a patch back, nulls included.
func (n *node) appendPatch(dst []byte) []byte {
	if !n.object {
		return append(dst, n.raw...)
	}
	dst = append(dst, '{')
	for i := range n.kids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, n.kids[i].key)
		dst = append(dst, ':')
		if n.kids[i].null {
			dst = append(dst, "null"...)
			continue
		}
		dst = n.kids[i].appendPatch(dst)
	}
	return append(dst, '}')
}

// writeTwin carries a write out and tells the device.
func (s *Server) writeTwin(deviceID, moduleID string, w twinWrite) (subject, *apiError) {
	now := s.clock.now()
	s.settleDue(deviceID, moduleID, now)
	if w.desired.doc != nil {
		// Until the device is told: notices leave in the order of their versions.
		order := s.store.order(deviceID)
		order.Lock()
		defer order.Unlock()
	}
	m, refusal := s.store.updateTwin(deviceID, moduleID, now, func(m subject, kept twin) (twin, *apiError) {
		if w.condition.refuses(etagText(kept.etag)) {
			return kept, errPrecondition()
		}
		full := s.store.twin(m)
		next, refusal := w.apply(kept, full, now)
		if refusal != nil {
			return kept, refusal
		}
		s.store.slot(m.slot).patches.Add(1) // before the state is kept, so that the count is in it
		if s.does(knobNoopPatch, "keep") && changesNothing(full, s.store.filled(m, next)) {
			return kept, nil
		}
		if w.desired.doc != nil {
			if w.desired.replace && s.does(knobPutNotice, "nulls") {
				w.text = w.desired.withNulls(full.desired)
			}
			next.pending = s.reaction(m, next, w, now)
		}
		return next, nil
	})
	if refusal != nil {
		return m, refusal
	}
	if w.desired.doc != nil {
		m = s.notify(m, w, now)
	}
	return m, nil
}

// apply returns the twin after the write. Sections that were not mentioned
// stay as they are kept; full has them all filled in.
func (w twinWrite) apply(kept, full twin, now time.Time) (twin, *apiError) {
	next := kept
	next.etag++
	next.version++
	if w.tags.doc != nil {
		next.tags = w.tags.over(full.tags, now)
		next.tags.stamps = nil // the hub keeps no metadata of tags
		if refusal := tooLarge("tags", full.tags, next.tags, maxTagsSize); refusal != nil {
			return kept, refusal
		}
	}
	if w.desired.doc != nil {
		next.desired = w.desired.over(full.desired, now)
		if refusal := tooLarge("properties.desired", full.desired, next.desired, maxPropsSize); refusal != nil {
			return kept, refusal
		}
	}
	return next, nil
}

func (w sectionWrite) over(before section, now time.Time) section {
	if w.replace {
		return before.replaced(w.doc, now)
	}
	return before.patched(w.doc, now)
}

// changesNothing compares the values that services write.
func changesNothing(before, after twin) bool {
	return before.tags.raw == after.tags.raw && before.desired.raw == after.desired.raw
}

// notify tells a connected device of the write, and lets a simulated one that
// follows at once do so. It returns the subject as it is then.
func (s *Server) notify(m subject, w twinWrite, now time.Time) subject {
	l := s.connected(m)
	if l == nil {
		return m
	}
	l.desired(desiredNotice{version: s.store.stored(m).desired.version, patch: w.text})
	if s.store.stored(m).pending.isDue(now) {
		if settled, refusal := s.settle(m, now); refusal == nil {
			return settled
		}
	}
	return m
}

// reaction is what a simulated device is going to report after a write of its
// desired properties. It follows from the file, so it is known beforehand and
// needs no timer: whoever looks at the twin when it is due finds it done.
func (s *Server) reaction(m subject, next twin, w twinWrite, now time.Time) *pending {
	if m.slot >= s.store.fleetLen || m.mod != nil && m.place < 0 || s.isReal(m) {
		return nil
	}
	f := s.store.fleet.Follow(m.slot, next.desired.version)
	if f.Kind == fleet.FollowNever {
		return next.pending
	}
	text := f.Reported(json.RawMessage(w.text))
	if text == nil {
		return next.pending
	}
	return next.pending.and(report{due: now.Add(f.Delay).UnixNano(), patch: string(text)})
}

// settleDue lets a simulated device report what is due.
func (s *Server) settleDue(deviceID, moduleID string, now time.Time) {
	m, refusal := s.store.look(deviceID, moduleID)
	if refusal == nil {
		s.settled(m, now)
	}
}

// lookNow finds a subject after what was due has happened.
func (s *Server) lookNow(deviceID, moduleID string) (subject, *apiError) {
	m, refusal := s.store.look(deviceID, moduleID)
	if refusal != nil {
		return m, refusal
	}
	return s.settled(m, s.clock.now()), nil
}

// settled returns the subject after its device reported what is due. A device
// that is offline reports when it is back.
func (s *Server) settled(m subject, now time.Time) subject {
	if !s.store.stored(m).pending.isDue(now) || s.connected(m) == nil {
		return m
	}
	if next, refusal := s.settle(m, now); refusal == nil {
		return next
	}
	return m
}

func (s *Server) settle(m subject, now time.Time) (subject, *apiError) {
	return s.store.updateTwin(m.id, m.moduleID(), now, func(m subject, t twin) (twin, *apiError) {
		if s.isReal(m) {
			t.pending = nil // it speaks for itself
			return t, nil
		}
		reported := s.store.filled(m, t).reported
		for t.pending.isDue(now) { // unless somebody else was quicker
			r := t.pending.reports[0]
			patch := readNode("", gjson.Parse(r.patch), &stampReader{})
			// What the hub would not take of a device is lost.
			if next := reported.patched(&patch, time.Unix(0, r.due)); tooLarge("", reported, next, maxPropsSize) == nil {
				reported, t.reported = next, next
				t.version++
			}
			t.pending = t.pending.rest()
		}
		return t, nil
	})
}

// appendTwin writes a twin as the hub shows it to services.
func (s *Server) appendTwin(dst []byte, m subject) []byte {
	t := s.store.twin(m)
	owner := subject{device: m.device, place: -1}
	ident := s.identityOf(owner)
	own := ident
	if m.mod != nil {
		own = s.identityOf(m)
	}
	dst = appendString(append(dst, `{"deviceId":`...), m.id)
	if m.mod != nil {
		dst = appendString(append(dst, `,"moduleId":`...), m.mod.id)
	}
	dst = appendString(append(dst, `,"etag":`...), etagText(t.etag))
	dst = appendString(append(dst, `,"deviceEtag":`...), own.etag)
	dst = appendString(append(dst, `,"status":`...), ident.statusText())
	if ident.reason != "" {
		dst = appendString(append(dst, `,"statusReason":`...), ident.reason)
	}
	dst = appendString(append(dst, `,"statusUpdateTime":`...), timeText(ident.statusAt))
	dst = s.appendActivity(dst, m)
	dst = append(dst, `,"cloudToDeviceMessageCount":`...)
	dst = strconv.AppendInt(dst, int64(s.mailCount(m)), 10)
	dst = appendString(append(dst, `,"authenticationType":`...), own.auth.String())
	dst = appendThumbprints(append(dst, `,"x509Thumbprint":`...), own)
	dst = append(dst, `,"modelId":"","version":`...)
	dst = strconv.AppendInt(dst, t.version, 10)
	if t.tags.raw != "" {
		dst = append(append(dst, `,"tags":`...), t.tags.raw...)
	}
	dst = t.desired.appendFull(append(dst, `,"properties":{"desired":`...), ofDesired)
	dst = t.reported.appendFull(append(dst, `,"reported":`...), ofReported)
	dst = append(dst, '}')
	if m.mod == nil {
		dst = strconv.AppendBool(append(dst, `,"capabilities":{"iotEdge":`...), ident.edge)
		dst = append(dst, '}')
		dst = appendScopes(dst, ident)
	}
	return append(dst, '}')
}

// appendActivity writes whether a subject is connected, and when it was last
// heard of.
func (s *Server) appendActivity(dst []byte, m subject) []byte {
	shown := s.seen(m)
	dst = appendString(append(dst, `,"connectionState":`...), shown.state)
	return appendString(append(dst, `,"lastActivityTime":`...), shown.heard)
}

func appendThumbprints(dst []byte, ident identity) []byte {
	if ident.auth != authSelfSigned {
		return append(dst, `{"primaryThumbprint":null,"secondaryThumbprint":null}`...)
	}
	dst = appendThumbprint(append(dst, `{"primaryThumbprint":`...), ident.primary)
	dst = appendThumbprint(append(dst, `,"secondaryThumbprint":`...), ident.secondary)
	return append(dst, '}')
}

func appendThumbprint(dst []byte, text string) []byte {
	if text == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, text)
}

func appendScopes(dst []byte, ident identity) []byte {
	if ident.scope != "" {
		dst = appendString(append(dst, `,"deviceScope":`...), ident.scope)
	}
	if len(ident.parents) > 0 {
		dst = appendStrings(append(dst, `,"parentScopes":`...), ident.parents)
	}
	return dst
}

// appendStrings writes texts as a JSON array.
func appendStrings(dst []byte, texts []string) []byte {
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, text)
	}
	return append(dst, ']')
}

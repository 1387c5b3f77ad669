package emulator

import (
	"strconv"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/fleet"
)

// This file follows "Communicate with your IoT hub using the MQTT protocol",
// sections on retrieving and updating a twin's properties.

// twinAnswer is what the hub answers to a request about a twin that it took.
type twinAnswer struct {
	status  int
	version int64 // of the section that was written; 0 for none
	body    []byte
}

// twinOperation carries out what a device asks of its twin, past the gate. The
// connection ends with its error.
func (l *mqttLink) twinOperation(op deviceOperation, t deviceTopic, run func() (twinAnswer, *apiError)) error {
	p := l.pass(op)
	if p.cut {
		return errFaulted
	}
	a, refusal := twinAnswer{}, p.refusal
	if refusal == nil {
		a, refusal = run()
	}
	if !l.passed(p) {
		return errFaulted
	}
	switch {
	case refusal != nil:
		l.refuse(t, refusal)
	case p.after.Kind == fleet.FaultBadGateway:
		l.refuse(t, errBadGateway())
	default:
		l.answer(t, a)
	}
	return nil
}

// getTwin answers a device's request for its twin: the two sections with their
// versions, no tags and no metadata.
func (l *mqttLink) getTwin() (twinAnswer, *apiError) {
	m, refusal := l.server.lookNow(l.subject.id, l.subject.moduleID())
	if refusal != nil {
		return twinAnswer{}, refusal
	}
	tw := l.server.store.twin(m)
	body := tw.desired.appendVersioned([]byte(`{"desired":`))
	body = tw.reported.appendVersioned(append(body, `,"reported":`...))
	return twinAnswer{status: 200, body: append(body, '}')}, nil
}

// appendVersioned writes the section as devices see it.
func (s section) appendVersioned(dst []byte) []byte {
	dst = s.appendPlain(dst)
	dst = dst[:len(dst)-1] // the closing brace
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, `"$version":`...)
	dst = strconv.AppendInt(dst, s.version, 10)
	return append(dst, '}')
}

// report merges what a device says into its reported properties.
func (l *mqttLink) report(t deviceTopic, payload []byte) (twinAnswer, *apiError) {
	version, refusal := l.server.report(l.subject, t.version, payload)
	return twinAnswer{status: 204, version: version}, refusal
}

// report writes a patch of reported properties, if the section still has the
// version that the device names. It returns the version it has then.
func (s *Server) report(m subject, base string, payload []byte) (int64, *apiError) {
	if len(payload) > maxTwinBody || !validJSON(payload) {
		return 0, errFormat("The reported properties must be a JSON object.")
	}
	patch, refusal := patchReader{name: "properties.reported", arrays: true}.read(gjson.ParseBytes(payload))
	if refusal != nil {
		return 0, refusal
	}
	now := s.clock.now()
	m, refusal = s.store.updateTwin(m.id, m.moduleID(), now, func(m subject, kept twin) (twin, *apiError) {
		before := s.store.filled(m, kept).reported
		if base != "" && base != strconv.FormatInt(before.version, 10) {
			return kept, errPrecondition()
		}
		next := kept
		next.version++
		next.reported = before.patched(&patch, now)
		return next, tooLarge("properties.reported", before, next.reported, maxPropsSize)
	})
	if refusal != nil {
		return 0, refusal
	}
	return s.store.stored(m).reported.version, nil
}

// answer sends a device the result of its request, if it listens.
func (l *mqttLink) answer(t deviceTopic, a twinAnswer) {
	if l.subscribed(twinAnswersFilter) {
		l.send(answerTopic(a.status, t.rid, a.version), a.body, 0, 0)
	}
}

// refuse tells a device what was wrong with its request.
func (l *mqttLink) refuse(t deviceTopic, e *apiError) {
	l.answer(t, twinAnswer{status: e.status, body: e.appendInner(nil, l.server.trackingID(), l.server.clock.now())})
}

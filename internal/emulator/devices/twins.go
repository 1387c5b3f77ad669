package devices

import (
	"strconv"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
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
func (l *mqttLink) twinOperation(op deviceOperation, t deviceTopic, run func() (twinAnswer, *refuse.Error)) error {
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
		l.refuse(t, core.ErrBadGateway())
	default:
		l.answer(t, a)
	}
	return nil
}

// getTwin answers a device's request for its twin: the two sections with their
// versions, no tags and no metadata.
func (l *mqttLink) getTwin() (twinAnswer, *refuse.Error) {
	m, refusal := l.server.LookNow(l.subject.ID, l.subject.ModuleID())
	if refusal != nil {
		return twinAnswer{}, refusal
	}
	tw := l.server.Store.Twin(m)
	body := appendVersioned([]byte(`{"desired":`), tw.Desired)
	body = appendVersioned(append(body, `,"reported":`...), tw.Reported)
	return twinAnswer{status: 200, body: append(body, '}')}, nil
}

// appendVersioned writes the section as devices see it.
func appendVersioned(dst []byte, s twindoc.Section) []byte {
	dst = s.AppendPlain(dst)
	dst = dst[:len(dst)-1] // the closing brace
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, `"$version":`...)
	dst = strconv.AppendInt(dst, s.Version, 10)
	return append(dst, '}')
}

// report merges what a device says into its reported properties.
func (l *mqttLink) report(t deviceTopic, payload []byte) (twinAnswer, *refuse.Error) {
	version, refusal := l.server.report(l.subject, t.version, payload)
	return twinAnswer{status: 204, version: version}, refusal
}

// maxReportedBody leaves room for white space around the hub's own limit.
const maxReportedBody = 512 << 10

// report writes a patch of reported properties, if the section still has the
// version that the device names. It returns the version it has then.
func (s *Front) report(m store.Subject, base string, payload []byte) (int64, *refuse.Error) {
	if len(payload) > maxReportedBody || !core.ValidJSON(payload) {
		return 0, refuse.Format("The reported properties must be a JSON object.")
	}
	patch, refusal := twindoc.PatchReader{Name: "properties.reported", Arrays: true}.Read(gjson.ParseBytes(payload))
	if refusal != nil {
		return 0, refusal
	}
	now := s.Clock.Now()
	m, refusal = s.Store.UpdateTwin(m.ID, m.ModuleID(), now, func(m store.Subject, kept twindoc.Twin) (twindoc.Twin, *refuse.Error) {
		before := s.Store.Filled(m, kept).Reported
		if base != "" && base != strconv.FormatInt(before.Version, 10) {
			return kept, refuse.Precondition()
		}
		next := kept
		next.Version++
		next.Reported = before.Patched(&patch, now)
		return next, twindoc.TooLarge("properties.reported", before, next.Reported, twindoc.MaxPropsSize)
	})
	if refusal != nil {
		return 0, refusal
	}
	return s.Store.Stored(m).Reported.Version, nil
}

// answer sends a device the result of its request, if it listens.
func (l *mqttLink) answer(t deviceTopic, a twinAnswer) {
	if l.subscribed(twinAnswersFilter) {
		l.send(answerTopic(a.status, t.rid, a.version), a.body, 0, 0)
	}
}

// refuse tells a device what was wrong with its request.
func (l *mqttLink) refuse(t deviceTopic, e *refuse.Error) {
	l.answer(t, twinAnswer{status: e.Status, body: e.AppendInner(nil, l.server.TrackingID(), l.server.Clock.Now())})
}

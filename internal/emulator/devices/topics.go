package devices

import (
	"net/url"
	"strconv"
	"strings"

	"iothub-runner/internal/emulator/store"
)

// deviceFilter is one of the things that a device can subscribe to.
type deviceFilter int

const (
	noFilter deviceFilter = iota
	methodsFilter
	twinAnswersFilter
	desiredFilter
	messagesFilter // from the cloud
	inputsFilter   // of a module, from other modules; nothing is ever sent
)

// filterSet is what somebody listens to.
type filterSet [inputsFilter + 1]bool

// String is how a state file tells of it.
func (f deviceFilter) String() string {
	switch f {
	case methodsFilter:
		return "methods"
	case twinAnswersFilter:
		return "twinAnswers"
	case desiredFilter:
		return "desired"
	case messagesFilter:
		return "messages"
	case inputsFilter:
		return "inputs"
	case noFilter:
	}
	return ""
}

// The topics of devices.
const (
	MethodsTopic     = "$iothub/methods/POST/"
	ReplyTopic       = "$iothub/methods/res/"
	TwinAnswersTopic = "$iothub/twin/res/"
	TwinGetTopic     = "$iothub/twin/GET/"
	ReportedTopic    = "$iothub/twin/PATCH/properties/reported/"
	DesiredTopic     = "$iothub/twin/PATCH/properties/desired/"
)

// topicsOf is the beginning of the topics that have the subject's ids in them.
func topicsOf(m store.Subject) string {
	if m.Mod == nil {
		return "devices/" + m.ID + "/"
	}
	return "devices/" + m.ID + "/modules/" + m.Mod.ID + "/"
}

// filter says what a topic filter asks for.
func (l *mqttLink) filter(text string) deviceFilter {
	switch text {
	case MethodsTopic + "#":
		return methodsFilter
	case TwinAnswersTopic + "#":
		return twinAnswersFilter
	case DesiredTopic + "#":
		return desiredFilter
	}
	rest, own := strings.CutPrefix(text, topicsOf(l.subject))
	switch {
	case own && l.subject.Mod == nil && rest == "messages/devicebound/#":
		return messagesFilter
	case own && l.subject.Mod != nil && (rest == "inputs/#" || rest == "#"):
		return inputsFilter
	}
	return noFilter
}

// purpose is what a device publishes for.
type purpose int

const (
	noTopic purpose = iota
	telemetryPurpose
	getTwinPurpose
	reportPurpose
	replyPurpose
)

// deviceTopic is a topic of a publication, taken apart.
type deviceTopic struct {
	purpose purpose
	rid     string // as the device wrote it; it is echoed, not read
	version string // $version, the condition of a report
	status  int    // of a method's answer
}

// topic takes the topic of a publication apart.
func (l *mqttLink) topic(text string) deviceTopic {
	if strings.ContainsAny(text, "+#") { // the broker would drop it without a word
		return deviceTopic{}
	}
	if l.isTelemetry(text) {
		return deviceTopic{purpose: telemetryPurpose}
	}
	if rest, ok := strings.CutPrefix(text, TwinGetTopic); ok {
		return requestTopic(getTwinPurpose, rest)
	}
	if rest, ok := strings.CutPrefix(text, ReportedTopic); ok {
		return requestTopic(reportPurpose, rest)
	}
	if rest, ok := strings.CutPrefix(text, ReplyTopic); ok {
		digits, query, _ := strings.Cut(rest, "/")
		status, err := strconv.ParseInt(digits, 10, 32)
		if err != nil {
			return deviceTopic{}
		}
		t := requestTopic(replyPurpose, query)
		t.status = int(status)
		return t
	}
	return deviceTopic{}
}

// isTelemetry says whether a topic is that of the subject's own messages, with
// a bag of properties after it or without.
func (l *mqttLink) isTelemetry(topic string) bool {
	rest, ok := strings.CutPrefix(topic, topicsOf(l.subject)+"messages/events")
	return ok && (rest == "" || rest[0] == '/')
}

// requestTopic reads ?$rid=...&$version=... No device can be answered without
// a request id.
func requestTopic(p purpose, query string) deviceTopic {
	t := deviceTopic{purpose: p}
	query, ok := strings.CutPrefix(query, "?")
	if !ok {
		return deviceTopic{}
	}
	for field := range strings.SplitSeq(query, "&") {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "$rid":
			t.rid = value
		case "$version":
			t.version = value
		}
	}
	if t.rid == "" {
		return deviceTopic{}
	}
	return t
}

// callTopic is where a method call is sent.
func callTopic(method, rid string) string {
	return MethodsTopic + escapeTopic(method) + "/?$rid=" + rid
}

func answerTopic(status int, rid string, version int64) string {
	topic := TwinAnswersTopic + strconv.Itoa(status) + "/?$rid=" + rid
	if version > 0 {
		topic += "&$version=" + strconv.FormatInt(version, 10)
	}
	return topic
}

// escapeTopic writes a text so that it is one level of a topic.
func escapeTopic(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// propertyBag writes properties at the end of a topic.
func propertyBag(names, values []string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(escapeTopic(name) + "=" + escapeTopic(values[i]))
	}
	return b.String()
}

package core

import (
	"fmt"
	"slices"
	"strings"
)

// A Behaviour is a point on which the real hub's conduct is not known for
// certain, or differs between its versions. Each has a default that the docs
// give a reason for, and can be switched to see whether a client copes.
type Behaviour struct {
	Name   string
	Values []string // the first is the default
	Doc    string
}

// knob is the place of a behaviour in [Behaviours].
type knob int

// The points that can be chosen.
const (
	KnobETagHeader knob = iota
	KnobPageOverMax
	KnobNestedKey
	KnobRetryAfter
	knobBigPayload
	knobDisabledDevice
	knobGarbageAnswer
	knobPutMissingSection
	knobNullSection
	knobPutNotice
	knobNoopPatch
	KnobBearer
	KnobModuleCreated
	KnobBulkErrorCode
	KnobJobPermission
	KnobDuplicateJob
	KnobEmptyCondition
	KnobBadCondition
	KnobZeroMatches
	KnobJobWithFailures
	KnobCancelRunning
	KnobScheduledCount
	KnobJobStatistics
	KnobJobTimeLimits
	KnobJobLag
	KnobJobShapes
	KnobJobBreaks
	Knobs // how many there are
)

// Behaviours returns every switch there is.
func Behaviours() []Behaviour {
	return slices.Concat(wireBehaviours(), jobBehaviours())
}

func wireBehaviours() []Behaviour {
	return []Behaviour{
		{"etagHeader", []string{"quoted", "bare", "none"}, "The ETag header of twins and identities. HTTP asks for quotes; clients use the etag of the body."},
		{"pageOverMax", []string{"clamp", "refuse"}, "A page size above 100. The az client counts on clamping."},
		{"nestedKey", []string{"last", "path"}, "The key of a projected nested path without alias: its last segment, or the whole path."},
		{"retryAfter", []string{"none", "header"}, "Whether a 429 has a Retry-After header. No client reads one and no capture shows one."},
		{"bigPayload", []string{"413", "400"}, "The status for a method payload above 128 KB: MessageTooLarge, or ArgumentInvalid."},
		{"disabledDevice", []string{"notFound", "notOnline"}, "A method call to a disabled device. The error list explains 404001 as not registered or disabled."},
		{"garbageAnswer", []string{"502", "504"}, "A device that answers what is not JSON: InvalidResponseWhileProxying, or a call that times out at once."},
		{"putMissingSection", []string{"keep", "clear"}, "A section that the body of PUT /twins does not mention."},
		{"nullSection", []string{"ignore", "clear"}, "A section that is null as a whole in PATCH or PUT."},
		{"putNotice", []string{"whole", "nulls"}, "What a device hears of a PUT: the whole new document, as Microsoft's MQTT page says, or null for each key that went, as devices were seen to need."},
		{"noopPatch", []string{"bump", "keep"}, "Whether a patch that changes no value raises etag and versions."},
		{"bearer", []string{"refuse", "accept"}, "Entra ID tokens where no issuer is known (`--entra-issuer`): accept takes any."},
		{"moduleCreated", []string{"200", "201"}, "The status for a new module. The swagger knows both; the Go client takes 200 alone."},
		{"bulkErrorCode", []string{"number", "name"}, "errorCode in the result of a bulk call: the number, as import logs and clients that worked with the hub have it, or the name, as in the swagger."},
	}
}

func jobBehaviours() []Behaviour {
	return []Behaviour{
		{"jobPermission", []string{"either", "serviceConnect", "registryWrite"}, "The permission that jobs ask for. The documents' samples use a policy that has both."},
		{"duplicateJob", []string{"conflict", "repeat"}, "PUT with a job id that is in use: 409 JobAlreadyExists always, or the job itself when the body is the same."},
		{"emptyCondition", []string{"refuse", "all"}, "An empty or missing queryCondition. The documents require one."},
		{"badCondition", []string{"async", "sync"}, "A queryCondition that cannot be read: the job is taken and fails later, as was seen, or 400 at once."},
		{"zeroMatches", []string{"completed", "failed"}, "The end of a job whose condition matches nothing."},
		{"jobWithFailures", []string{"completed", "failed"}, "The end of a job of which some devices failed. completed was seen with failed devices."},
		{"cancelRunning", []string{"405", "400", "409"}, "The status for cancelling a job that runs or has ended. The hub groups the error's name with 405."},
		{"scheduledCount", []string{"no", "yes"}, "Whether jobs that start later count against the limit of active jobs."},
		{"jobStatistics", []string{"always", "atEnd"}, "When deviceJobStatistics shows: from the start of the run, or only after its end."},
		{"jobTimeLimits", []string{"none", "strict"}, "strict refuses a maxExecutionTimeInSeconds above 48 hours and a startTime more than 7 days ahead."},
		{"jobLag", []string{"none", "rows", "statistics", "status"}, "What of a job is three seconds behind the rest: its rows in devices.jobs, deviceJobStatistics, or its status."},
		{"jobShapes", []string{"plain", "odd"}, "odd writes what some hubs were seen to write: enqueued, canceled of a job and cancelled of a row, scheduled rows, no endTime or statistics before the end, times without zone, and null for no jobs or rows."},
		{"jobBreaks", []string{"never", "midway"}, "midway ends each job as failed when it has begun with half of its devices; the other rows stay as they are."},
	}
}

// Choices is the value chosen for each behaviour.
type Choices [Knobs]string

// ParseBehaviour reads switches by name. It names every mistake at once.
func ParseBehaviour(set map[string]string) (Choices, error) {
	var c Choices
	known := Behaviours()
	for i, b := range known {
		c[i] = b.Values[0]
	}
	var wrong []string
	for name, value := range set {
		i := slices.IndexFunc(known, func(b Behaviour) bool { return b.Name == name })
		switch {
		case i < 0:
			wrong = append(wrong, fmt.Sprintf("behaviour %q: there is no such switch; want one of %s", name, strings.Join(names(known), ", ")))
		case !slices.Contains(known[i].Values, value):
			wrong = append(wrong, fmt.Sprintf("behaviour %s=%q: want %s", name, value, strings.Join(known[i].Values, " or ")))
		default:
			c[i] = value
		}
	}
	if wrong == nil {
		return c, nil
	}
	slices.Sort(wrong)
	return c, fmt.Errorf("%s", strings.Join(wrong, "; "))
}

func names(list []Behaviour) []string {
	var all []string
	for _, b := range list {
		all = append(all, b.Name)
	}
	return all
}

// Does says whether a behaviour has a value.
func (s *Hub) Does(k knob, value string) bool { return s.Chosen[k] == value }

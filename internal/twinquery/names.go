package twinquery

import "strings"

// Source is the collection that a query reads.
type Source uint8

// The collections.
const (
	Devices Source = iota + 1
	Modules
	Jobs
)

// String returns the collection as it stands after FROM.
func (s Source) String() string {
	switch s {
	case Devices:
		return "devices"
	case Modules:
		return "devices.modules"
	case Jobs:
		return "devices.jobs"
	}
	return "no collection"
}

func isKeyword(word string) bool {
	switch asciiUpper(word) {
	case "SELECT", "TOP", "FROM", "WHERE", "GROUP", "BY", "AS", "AND", "OR", "NOT", "IN", "NIN",
		"TRUE", "FALSE", "NULL", "UNDEFINED":
		return true
	}
	return false
}

// twinName returns the system property of a twin that name spells in some
// case. Known is false for a name that no twin has at its top.
func twinName(name string) (canonical string, known bool) {
	return spelledAs(name, "deviceId", "moduleId", "etag", "deviceEtag", "version", "status", "statusReason",
		"statusUpdateTime", "connectionState", "lastActivityTime", "cloudToDeviceMessageCount", "authenticationType",
		"x509Thumbprint", "modelId", "capabilities", "deviceScope", "parentScopes", "configurations", "tags",
		"properties", "attributes")
}

// jobName does the same for a row of devices.jobs. The documentation filters
// on createdTimeUtc, the rows carry createdDateTimeUtc: both mean the latter.
func jobName(name string) (canonical string, known bool) {
	if asciiUpper(name) == "CREATEDTIMEUTC" {
		return "createdDateTimeUtc", true
	}
	return spelledAs(name, jobNames()...)
}

func jobNames() []string {
	return []string{
		"deviceId", "moduleId", "jobId", "jobType", "status", "startTimeUtc", "endTimeUtc",
		"createdDateTimeUtc", "lastUpdatedDateTimeUtc", "outcome", "error",
	}
}

func spelledAs(name string, spellings ...string) (canonical string, known bool) {
	upper := asciiUpper(name)
	for _, s := range spellings {
		if asciiUpper(s) == upper {
			return s, true
		}
	}
	return name, false
}

// canonicalTail spells the system names below the first segment of a path,
// which is canonical already.
func canonicalTail(segments []string) {
	if len(segments) < 2 {
		return
	}
	switch segments[0] {
	case "properties":
		segments[1], _ = spelledAs(segments[1], "desired", "reported")
		for i, s := range segments[2:] {
			if strings.HasPrefix(s, "$") {
				segments[2+i], _ = spelledAs(s, "$metadata", "$version", "$lastUpdated", "$lastUpdatedVersion")
			}
		}
	case "capabilities":
		segments[1], _ = spelledAs(segments[1], "iotEdge")
	case "x509Thumbprint":
		segments[1], _ = spelledAs(segments[1], "primaryThumbprint", "secondaryThumbprint")
	}
}

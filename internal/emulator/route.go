package emulator

import (
	"net/http"
	"net/url"
	"strings"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
)

// route is a request's operation and what it addresses.
type route struct {
	op     core.Operation
	device string
	module string
	job    string
	what   string // for opNotEmulated
}

// maxSegments is one more than the longest path has.
const maxSegments = 6

// segments splits the request's path, decoded. Empty segments count: a missing
// id must not shift what follows it.
func segments(u *url.URL, into []string) ([]string, bool) {
	escaped := u.RawPath != ""
	path := u.Path
	if escaped {
		path = u.RawPath
	}
	path = strings.TrimPrefix(path, "/")
	path = strings.TrimSuffix(path, "/")
	for part := range strings.SplitSeq(path, "/") {
		if escaped {
			var err error
			if part, err = url.PathUnescape(part); err != nil {
				return nil, false
			}
		}
		if len(into) == maxSegments {
			return nil, false
		}
		into = append(into, part)
	}
	return into, true
}

// methodOf is what a request does. Java's HTTP library knows no PATCH, so that
// Microsoft's client for Java sends it as a POST with a header.
func methodOf(r *http.Request) string {
	if r.Method == http.MethodPost && strings.EqualFold(r.Header.Get("X-Http-Method-Override"), http.MethodPatch) {
		return http.MethodPatch
	}
	return r.Method
}

// findRoute names what a request asks for. An unknown path gives 404, a known
// one with the wrong verb 405, both in the words of the hub's router.
func findRoute(r *http.Request, parts []string) (route, *refuse.Error) {
	var rt route
	method, known := methodOf(r), false
	switch strings.ToLower(parts[0]) {
	case "twins":
		rt, known = twinRoute(method, parts)
	case "devices":
		rt, known = deviceRoute(method, parts)
	case "statistics":
		rt, known = statisticsRoute(method, parts)
	case "jobs":
		rt, known = jobRoute(method, parts)
	case "configurations":
		rt, known = route{op: core.OpNotEmulated, what: "Automatic device management (/configurations)"}, true
	case "digitaltwins":
		rt, known = route{op: core.OpNotEmulated, what: "The digital twins API (use /twins)"}, true
	case "messages":
		rt, known = route{op: core.OpNotEmulated, what: "Cloud-to-device feedback over HTTPS"}, true
	case "files", "filenotifications":
		rt, known = route{op: core.OpNotEmulated, what: "File upload"}, true
	}
	if !known {
		return rt, &refuse.Error{Status: 404, Name: "GenericNotFound", Shape: refuse.ShapePlain, Text: "No HTTP resource was found that matches the request URI '" + r.URL.Path + "'."}
	}
	if rt.op == core.OpUnknown {
		return rt, &refuse.Error{Status: 405, Shape: refuse.ShapePlain, Text: "The requested resource does not support http method '" + method + "'."}
	}
	return rt, nil
}

// verbs are the operations of one path; a verb without one is refused.
type verbs struct{ get, put, patch, post, del core.Operation }

func (v verbs) pick(verb string) core.Operation {
	switch verb {
	case http.MethodGet:
		return v.get
	case http.MethodPut:
		return v.put
	case http.MethodPatch:
		return v.patch
	case http.MethodPost:
		return v.post
	case http.MethodDelete:
		return v.del
	}
	return core.OpUnknown
}

func twinRoute(verb string, p []string) (route, bool) {
	switch {
	case len(p) == 2:
		return route{op: verbs{get: core.OpGetTwin, put: core.OpPutTwin, patch: core.OpPatchTwin}.pick(verb), device: p[1]}, true
	case len(p) == 3 && is(p[2], "methods"):
		return route{op: verbs{post: core.OpInvoke}.pick(verb), device: p[1]}, true
	case len(p) == 4 && is(p[2], "modules"):
		return route{op: verbs{get: core.OpGetTwin, put: core.OpPutTwin, patch: core.OpPatchTwin}.pick(verb), device: p[1], module: p[3]}, p[3] != ""
	case len(p) == 5 && is(p[2], "modules") && is(p[4], "methods"):
		return route{op: verbs{post: core.OpInvoke}.pick(verb), device: p[1], module: p[3]}, p[3] != ""
	}
	return route{}, false
}

func deviceRoute(verb string, p []string) (route, bool) {
	switch {
	case len(p) == 1:
		return route{op: verbs{get: core.OpListDevices, post: core.OpBulk}.pick(verb)}, true
	case len(p) == 2 && is(p[1], "query") && verb == http.MethodPost:
		return route{op: core.OpQuery}, true
	case len(p) == 2:
		return route{op: verbs{get: core.OpGetDevice, put: core.OpPutDevice, del: core.OpDeleteDevice}.pick(verb), device: p[1]}, true
	case len(p) >= 3 && is(p[2], "modules"):
		return moduleRoute(verb, p)
	case len(p) == 3 && is(p[2], "commands"):
		return route{op: verbs{del: core.OpPurge}.pick(verb), device: p[1]}, true
	case len(p) == 3 && is(p[2], "applyConfigurationContent"):
		return route{op: core.OpNotEmulated, what: "Applying edge configuration content"}, true
	case len(p) >= 3 && (is(p[2], "messages") || is(p[2], "files")):
		return route{op: core.OpNotEmulated, what: "The device API over HTTPS (connect devices over MQTT)"}, true
	}
	return route{}, false
}

func moduleRoute(verb string, p []string) (route, bool) {
	switch {
	case len(p) == 3:
		return route{op: verbs{get: core.OpListModules}.pick(verb), device: p[1]}, true
	case len(p) == 4 && p[3] != "":
		return route{op: verbs{get: core.OpGetModule, put: core.OpPutModule, del: core.OpDeleteModule}.pick(verb), device: p[1], module: p[3]}, true
	}
	return route{}, false
}

func statisticsRoute(verb string, p []string) (route, bool) {
	switch {
	case len(p) == 2 && is(p[1], "devices"):
		return route{op: verbs{get: core.OpDeviceStatistics}.pick(verb)}, true
	case len(p) == 2 && is(p[1], "service"):
		return route{op: verbs{get: core.OpServiceStatistics}.pick(verb)}, true
	}
	return route{}, false
}

func jobRoute(verb string, p []string) (route, bool) {
	switch {
	case len(p) >= 2 && is(p[1], "v2"):
		return scheduledJobRoute(verb, p)
	case len(p) == 1:
		return route{op: verbs{get: core.OpListOldJobs}.pick(verb)}, true
	case len(p) == 2 && is(p[1], "create"):
		return route{op: core.OpNotEmulated, what: "Import and export of devices by blob storage (use POST /devices)"}, true
	case len(p) == 2:
		return route{op: verbs{get: core.OpGetOldJob}.pick(verb), job: p[1]}, true
	}
	return route{}, false
}

func scheduledJobRoute(verb string, p []string) (route, bool) {
	switch {
	case len(p) == 3 && is(p[2], "query") && verb == http.MethodGet:
		return route{op: core.OpListJobs}, true
	case len(p) == 3 && p[2] != "":
		return route{op: verbs{get: core.OpGetJob, put: core.OpPutJob}.pick(verb), job: p[2]}, true
	case len(p) == 4 && is(p[3], "cancel") && p[2] != "":
		return route{op: verbs{post: core.OpCancelJob}.pick(verb), job: p[2]}, true
	case len(p) == 4 && is(p[3], "cancel"):
		return route{}, true // what clients get that forget the id
	}
	return route{}, false
}

// is compares a fixed part of a path; the hub's router ignores case.
func is(part, word string) bool { return strings.EqualFold(part, word) }

// version is an api-version, as far as it changes what the hub does.
type version int

const (
	versionUnknown   version = iota
	versionBeforeArr         // before 2019-10-01: twins hold no arrays
	versionCurrent
	version2024 // adds attributes to devices and twins
)

// apiVersion reads the query parameter without taking the whole query apart.
func apiVersion(rawQuery string) version {
	for rawQuery != "" {
		var pair string
		pair, rawQuery, _ = strings.Cut(rawQuery, "&")
		if value, ok := strings.CutPrefix(pair, "api-version="); ok {
			return parseVersion(value)
		}
	}
	return versionUnknown
}

func parseVersion(text string) version {
	switch text {
	case "2021-04-12", "2020-09-30", "2020-05-31-preview", "2020-03-13", "2019-10-01":
		return versionCurrent
	case "2024-03-31":
		return version2024
	case "2016-02-03", "2016-11-14", "2017-06-30", "2018-04-01", "2018-06-30", "2019-03-30":
		return versionBeforeArr
	}
	return versionUnknown
}

package emulator

import (
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Handler serves the hub's HTTPS API. Tests hand it to a server of their own.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// serve takes a request through the hub's gate: route, signature, permission,
// version, throttle and faults, then the operation itself.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == websocketPath {
		s.serveWebsocket(w, r)
		return
	}
	buf, ok := s.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	x := &exchange{Server: s, w: w, r: r, buf: (*buf)[:0]}
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		defer x.show(time.Now())
	}
	if refusal := x.handle(); refusal != nil {
		x.refuse(refusal)
	}
	x.leaveBody()
	if cap(x.buf) <= maxPooled {
		*buf = x.buf[:0]
		s.buffers.Put(buf)
	}
}

// show logs the request, a fault that cut its connection too. No header and no
// body: they hold signatures and keys.
func (x *exchange) show(begin time.Time) {
	answer := any(x.status)
	if x.status == 0 {
		answer = "none"
	}
	x.log.Debug("request", "method", x.r.Method, "path", x.r.URL.Path, "status", answer, "took", time.Since(begin))
}

// maxPooled keeps one huge answer from being held for ever.
const maxPooled = 64 << 10

func (x *exchange) handle() *apiError {
	var store [maxSegments]string
	parts, ok := segments(x.r.URL, store[:0])
	if !ok {
		return &apiError{status: 404, name: "GenericNotFound", shape: shapePlain, text: "No HTTP resource was found that matches the request URI '" + x.r.URL.Path + "'."}
	}
	var refusal *apiError
	if x.route, refusal = findRoute(x.r, parts); refusal != nil {
		return refusal
	}
	if refusal = x.admit(parts); refusal != nil {
		return refusal
	}
	return x.operations[x.route.op](x)
}

// admit lets a request pass that is signed, permitted and of a known version.
func (x *exchange) admit(parts []string) *apiError {
	g, refusal := x.authorize(authorizationOf(x.r))
	if refusal != nil {
		return refusal
	}
	if !covers(g.scope, parts) {
		return errUnauthorized("the token's scope does not cover the resource")
	}
	if g.allows&x.needs() == 0 {
		return errUnauthorized("the policy does not allow the operation")
	}
	x.grant = g
	if apiVersion(x.r.URL.RawQuery) == versionUnknown {
		return &apiError{status: 400, code: 400001, name: "InvalidProtocolVersion", text: "The api-version of the request is missing or not supported."}
	}
	return nil
}

// needs returns the permissions of which the caller must have one.
func (x *exchange) needs() permission {
	if x.route.op.throttle() == throttleJobs {
		switch {
		case x.does(knobJobPermission, "serviceConnect"):
			return serviceConnect
		case x.does(knobJobPermission, "registryWrite"):
			return registryWrite
		}
	}
	return x.route.op.needs()
}

func authorizationOf(r *http.Request) string {
	if v := r.Header["Authorization"]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// operations is what carries each operation out.
type operations [opNotEmulated + 1]func(*exchange) *apiError

func allOperations() operations {
	return operations{
		opUnknown:           (*exchange).notEmulated,
		opGetTwin:           (*exchange).getTwin,
		opPatchTwin:         (*exchange).changeTwin,
		opPutTwin:           (*exchange).changeTwin,
		opInvoke:            (*exchange).invokeMethod,
		opQuery:             (*exchange).query,
		opGetDevice:         (*exchange).getDevice,
		opPutDevice:         (*exchange).putDevice,
		opDeleteDevice:      (*exchange).deleteDevice,
		opListDevices:       (*exchange).listDevices,
		opBulk:              (*exchange).bulk,
		opListModules:       (*exchange).listModules,
		opGetModule:         (*exchange).getModule,
		opPutModule:         (*exchange).putModule,
		opDeleteModule:      (*exchange).deleteModule,
		opDeviceStatistics:  (*exchange).deviceStatistics,
		opServiceStatistics: (*exchange).serviceStatistics,
		opPurge:             (*exchange).purge,
		opPutJob:            (*exchange).putJob,
		opGetJob:            (*exchange).getJob,
		opCancelJob:         (*exchange).cancelJob,
		opListJobs:          (*exchange).listJobs,
		opListOldJobs:       (*exchange).listOldJobs,
		opGetOldJob:         (*exchange).getOldJob,
		opNotEmulated:       (*exchange).notEmulated,
	}
}

func (x *exchange) notEmulated() *apiError { return errNotEmulated(x.route.what) }

// condition is a parsed If-Match header.
type condition struct {
	given bool
	any   bool
	etag  string
}

// ifMatch reads the header. An etag without quotes is not one: the hub has
// been seen to ignore it and to write unconditionally.
func ifMatch(r *http.Request) condition {
	text := strings.TrimSpace(r.Header.Get("If-Match"))
	if text == "*" || text == `"*"` {
		return condition{given: true, any: true}
	}
	etag, ok := strings.CutPrefix(strings.TrimPrefix(text, "W/"), `"`)
	if !ok || !strings.HasSuffix(etag, `"`) {
		return condition{}
	}
	return condition{given: true, etag: strings.TrimSuffix(etag, `"`)}
}

// refuses says whether the condition does not hold for an etag.
func (c condition) refuses(etag string) bool {
	return c.given && !c.any && c.etag != etag
}

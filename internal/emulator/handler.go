package emulator

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/twindoc"
)

// Handler serves the hub's HTTPS API. Tests hand it to a server of their own.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// serve takes a request through the hub's gate: route, signature, permission,
// version, throttle and faults, then the operation itself.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == devices.WebsocketPath {
		s.front.ServeWebsocket(w, r)
		return
	}
	buf, ok := s.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	x := &exchange{Server: s, w: w, r: r, buf: (*buf)[:0]}
	if s.Log.Enabled(r.Context(), slog.LevelDebug) {
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
	x.Log.Debug("request", "method", x.r.Method, "path", x.r.URL.Path, "status", answer, "took", time.Since(begin))
}

// maxPooled keeps one huge answer from being held for ever.
const maxPooled = 64 << 10

func (x *exchange) handle() *refuse.Error {
	var store [maxSegments]string
	parts, ok := segments(x.r.URL, store[:0])
	if !ok {
		return &refuse.Error{Status: 404, Name: "GenericNotFound", Shape: refuse.ShapePlain, Text: "No HTTP resource was found that matches the request URI '" + x.r.URL.Path + "'."}
	}
	var refusal *refuse.Error
	if x.route, refusal = findRoute(x.r, parts); refusal != nil {
		return refusal
	}
	if refusal = x.admit(parts); refusal != nil {
		return refusal
	}
	return x.operations[x.route.op](x)
}

// admit lets a request pass that is signed, permitted and of a known version.
func (x *exchange) admit(parts []string) *refuse.Error {
	g, refusal := x.authorize(authorizationOf(x.r))
	if refusal != nil {
		return refusal
	}
	if !access.Covers(g.Scope, parts) {
		return refuse.Unauthorized("the token's scope does not cover the resource")
	}
	if g.Role != nil && !g.Role.Lets(x.route.op.Action()) {
		return refuse.Unauthorized(fmt.Sprintf("Principal %s is not authorized for %s on %s due to no assigned permissions", g.Principal, x.r.Method, x.r.URL.Path))
	}
	if g.Allows&x.needs() == 0 {
		return refuse.Unauthorized("the policy does not allow the operation")
	}
	x.grant = g
	if apiVersion(x.r.URL.RawQuery) == versionUnknown {
		return &refuse.Error{Status: 400, Code: 400001, Name: "InvalidProtocolVersion", Text: "The api-version of the request is missing or not supported."}
	}
	return nil
}

// needs returns the permissions of which the caller must have one.
func (x *exchange) needs() access.Permission {
	if x.route.op.Throttle() == core.ThrottleJobs {
		switch {
		case x.Does(core.KnobJobPermission, "serviceConnect"):
			return access.ServiceConnect
		case x.Does(core.KnobJobPermission, "registryWrite"):
			return access.RegistryWrite
		}
	}
	return x.route.op.Needs()
}

func authorizationOf(r *http.Request) string {
	if v := r.Header["Authorization"]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// operations is what carries each operation out.
type operations [core.OpNotEmulated + 1]func(*exchange) *refuse.Error

func allOperations() operations {
	return operations{
		core.OpUnknown:           (*exchange).notEmulated,
		core.OpGetTwin:           (*exchange).getTwin,
		core.OpPatchTwin:         (*exchange).changeTwin,
		core.OpPutTwin:           (*exchange).changeTwin,
		core.OpInvoke:            (*exchange).invokeMethod,
		core.OpQuery:             (*exchange).query,
		core.OpGetDevice:         (*exchange).getDevice,
		core.OpPutDevice:         (*exchange).putDevice,
		core.OpDeleteDevice:      (*exchange).deleteDevice,
		core.OpListDevices:       (*exchange).listDevices,
		core.OpBulk:              (*exchange).bulk,
		core.OpListModules:       (*exchange).listModules,
		core.OpGetModule:         (*exchange).getModule,
		core.OpPutModule:         (*exchange).putModule,
		core.OpDeleteModule:      (*exchange).deleteModule,
		core.OpDeviceStatistics:  (*exchange).deviceStatistics,
		core.OpServiceStatistics: (*exchange).serviceStatistics,
		core.OpPurge:             (*exchange).purge,
		core.OpPutJob:            (*exchange).putJob,
		core.OpGetJob:            (*exchange).getJob,
		core.OpCancelJob:         (*exchange).cancelJob,
		core.OpListJobs:          (*exchange).listJobs,
		core.OpListOldJobs:       (*exchange).listOldJobs,
		core.OpGetOldJob:         (*exchange).getOldJob,
		core.OpNotEmulated:       (*exchange).notEmulated,
	}
}

func (x *exchange) notEmulated() *refuse.Error { return refuse.NotEmulated(x.route.what) }

// ifMatch reads the header. An etag without quotes is not one: the hub has
// been seen to ignore it and to write unconditionally.
func ifMatch(r *http.Request) twindoc.Condition {
	text := strings.TrimSpace(r.Header.Get("If-Match"))
	if text == "*" || text == `"*"` {
		return twindoc.Condition{Given: true, Any: true}
	}
	etag, ok := strings.CutPrefix(strings.TrimPrefix(text, "W/"), `"`)
	if !ok || !strings.HasSuffix(etag, `"`) {
		return twindoc.Condition{}
	}
	return twindoc.Condition{Given: true, ETag: strings.TrimSuffix(etag, `"`)}
}

package emulator

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// This file follows "Understand and resolve Azure IoT Hub errors" and the
// bodies that people captured from the live service.

// errorShape is the form of an error's body. The hub has several, because
// several of its parts answer.
type errorShape int

const (
	shapeGateway errorShape = iota // {"Message":"ErrorCode:<Name>;<text>","ExceptionMessage":"Tracking ID:..."}
	shapeMethod                    // {"Message":"<JSON as a string>","ExceptionMessage":""}
	shapePlain                     // {"Message":"<text>"}: the router, before any service
	shapeBulk                      // the body is ready: a result of a bulk operation
)

// apiError is a refusal by the hub.
type apiError struct {
	status int    // of HTTP
	code   int    // the hub's number, 0 when it has none
	name   string // the hub's name
	text   string
	shape  errorShape
	info   string // raw JSON for shapeMethod, "{}" when empty
	body   []byte // for shapeBulk
	wait   int    // seconds to wait that a 429 asks for
}

// Error reads as the hub's name for it and its text.
func (e *apiError) Error() string { return e.name + ": " + e.text }

// ofMethod returns the error in the shape of direct methods.
func (e *apiError) ofMethod() *apiError {
	c := *e
	c.shape = shapeMethod
	return &c
}

func errUnauthorized(text string) *apiError {
	return &apiError{status: 401, code: 401002, name: "IotHubUnauthorizedAccess", text: text}
}

func errArgument(format string, args ...any) *apiError {
	return &apiError{status: 400, code: 400004, name: "ArgumentInvalid", text: fmt.Sprintf(format, args...)}
}

func errFormat(text string) *apiError {
	return &apiError{status: 400, code: 400006, name: "IotHubFormatError", text: text}
}

func errDeviceNotFound(id string) *apiError {
	return &apiError{status: 404, code: 404001, name: "DeviceNotFound", text: id}
}

func errModuleNotFound(device, module string) *apiError {
	return &apiError{status: 404, code: 404010, name: "ModuleNotFound", text: device + "/" + module}
}

func errPrecondition() *apiError {
	return &apiError{status: 412, code: 412001, name: "PreconditionFailed", text: "Precondition failed: the etag given does not match the one of the resource."}
}

func errTooLarge(limit int) *apiError {
	return &apiError{status: 413, code: 413001, name: "MessageTooLarge", text: fmt.Sprintf("The request is larger than %d bytes.", limit)}
}

func errNotEmulated(what string) *apiError {
	return &apiError{status: 501, name: "NotImplemented", text: what + " is not emulated", shape: shapePlain}
}

func errInternal(text string) *apiError {
	return &apiError{status: 500, code: 500001, name: "ServerError", text: text}
}

// appendBody writes the body of e as the hub words it.
func (e *apiError) appendBody(dst []byte, tracking string, now time.Time) []byte {
	switch e.shape {
	case shapeBulk:
		return append(dst, e.body...)
	case shapePlain:
		return append(appendString(append(dst, `{"Message":`...), e.text), '}')
	case shapeMethod:
		return e.appendMethodBody(dst, tracking, now)
	case shapeGateway:
	}
	dst = append(dst, `{"Message":`...)
	dst = appendString(dst, "ErrorCode:"+e.name+";"+e.text)
	dst = append(dst, `,"ExceptionMessage":`...)
	dst = appendString(dst, "Tracking ID:"+tracking+"-G2:-TimeStamp:"+now.UTC().Format(time.RFC3339Nano))
	return append(dst, '}')
}

func (e *apiError) appendMethodBody(dst []byte, tracking string, now time.Time) []byte {
	inner := e.appendInner(nil, tracking, now)
	dst = appendString(append(dst, `{"Message":`...), string(inner))
	return append(dst, `,"ExceptionMessage":""}`...)
}

// appendInner writes the object that errors of methods hold, and that devices
// get as it is.
func (e *apiError) appendInner(dst []byte, tracking string, now time.Time) []byte {
	info := e.info
	if info == "" {
		info = "{}"
	}
	dst = append(dst, `{"errorCode":`...)
	dst = strconv.AppendInt(dst, int64(e.code), 10)
	dst = append(dst, `,"trackingId":`...)
	dst = appendString(dst, tracking+"-G2:-TimeStamp:"+now.UTC().Format(time.RFC3339Nano))
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, e.text)
	dst = append(dst, `,"info":`+info+`,"timestampUtc":`...)
	dst = appendString(dst, now.UTC().Format(time.RFC3339Nano))
	return append(dst, '}')
}

// appendString writes s as a JSON string, with nothing escaped that need not be.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			return appendEscaped(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s { // broken UTF-8 becomes U+FFFD: the answer stays JSON
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = append(dst, string(r)...)
		}
	}
	return append(dst, '"')
}

// appendJSON writes a value that encoding/json cannot refuse.
func appendJSON(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("emulator: a wire type that does not encode: " + err.Error())
	}
	return append(dst, b...)
}

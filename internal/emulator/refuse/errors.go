// Package refuse has the errors of the hub: their numbers, names and bodies.
package refuse

import (
	"fmt"
	"strconv"
	"time"

	"iothub-runner/internal/emulator/wire"
)

// This file follows "Understand and resolve Azure IoT Hub errors" and the
// bodies that people captured from the live service.

// Shape is the form of an error's body. The hub has several, because
// several of its parts answer.
type Shape int

// The shapes.
const (
	ShapeGateway Shape = iota // {"Message":"ErrorCode:<Name>;<text>","ExceptionMessage":"Tracking ID:..."}
	ShapeMethod               // {"Message":"<JSON as a string>","ExceptionMessage":""}
	ShapePlain                // {"Message":"<text>"}: the router, before any service
	ShapeBulk                 // the body is ready: a result of a bulk operation
)

// Error is a refusal by the hub.
type Error struct {
	Status int    // of HTTP
	Code   int    // the hub's number, 0 when it has none
	Name   string // the hub's name
	Text   string
	Shape  Shape
	Info   string // raw JSON for shapeMethod, "{}" when empty
	Body   []byte // for shapeBulk
	Wait   int    // seconds to wait that a 429 asks for
}

// Error reads as the hub's name for it and its text.
func (e *Error) Error() string { return e.Name + ": " + e.Text }

// OfMethod returns the error in the shape of direct methods.
func (e *Error) OfMethod() *Error {
	c := *e
	c.Shape = ShapeMethod
	return &c
}

// Unauthorized says that the credentials do not reach.
func Unauthorized(text string) *Error {
	return &Error{Status: 401, Code: 401002, Name: "IotHubUnauthorizedAccess", Text: text}
}

// Argument says that a value cannot be used.
func Argument(format string, args ...any) *Error {
	return &Error{Status: 400, Code: 400004, Name: "ArgumentInvalid", Text: fmt.Sprintf(format, args...)}
}

// Format says that the body cannot be read.
func Format(text string) *Error {
	return &Error{Status: 400, Code: 400006, Name: "IotHubFormatError", Text: text}
}

// DeviceNotFound says that a device is not registered.
func DeviceNotFound(id string) *Error {
	return &Error{Status: 404, Code: 404001, Name: "DeviceNotFound", Text: id}
}

// ModuleNotFound says that a module is not.
func ModuleNotFound(device, module string) *Error {
	return &Error{Status: 404, Code: 404010, Name: "ModuleNotFound", Text: device + "/" + module}
}

// Precondition says that the etag is another by now.
func Precondition() *Error {
	return &Error{Status: 412, Code: 412001, Name: "PreconditionFailed", Text: "Precondition failed: the etag given does not match the one of the resource."}
}

// TooLarge says that a body is larger than so many bytes.
func TooLarge(limit int) *Error {
	return &Error{Status: 413, Code: 413001, Name: "MessageTooLarge", Text: fmt.Sprintf("The request is larger than %d bytes.", limit)}
}

// NotEmulated says so, instead of answering wrongly.
func NotEmulated(what string) *Error {
	return &Error{Status: 501, Name: "NotImplemented", Text: what + " is not emulated", Shape: ShapePlain}
}

// Internal is a fault of ours.
func Internal(text string) *Error {
	return &Error{Status: 500, Code: 500001, Name: "ServerError", Text: text}
}

// AppendBody writes the body of e as the hub words it.
func (e *Error) AppendBody(dst []byte, tracking string, now time.Time) []byte {
	switch e.Shape {
	case ShapeBulk:
		return append(dst, e.Body...)
	case ShapePlain:
		return append(wire.String(append(dst, `{"Message":`...), e.Text), '}')
	case ShapeMethod:
		return e.appendMethodBody(dst, tracking, now)
	case ShapeGateway:
	}
	dst = append(dst, `{"Message":`...)
	dst = wire.String(dst, "ErrorCode:"+e.Name+";"+e.Text)
	dst = append(dst, `,"ExceptionMessage":`...)
	dst = wire.String(dst, "Tracking ID:"+tracking+"-G2:-TimeStamp:"+now.UTC().Format(time.RFC3339Nano))
	return append(dst, '}')
}

func (e *Error) appendMethodBody(dst []byte, tracking string, now time.Time) []byte {
	inner := e.AppendInner(nil, tracking, now)
	dst = wire.String(append(dst, `{"Message":`...), string(inner))
	return append(dst, `,"ExceptionMessage":""}`...)
}

// AppendInner writes the object that errors of methods hold, and that devices
// get as it is.
func (e *Error) AppendInner(dst []byte, tracking string, now time.Time) []byte {
	info := e.Info
	if info == "" {
		info = "{}"
	}
	dst = append(dst, `{"errorCode":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"trackingId":`...)
	dst = wire.String(dst, tracking+"-G2:-TimeStamp:"+now.UTC().Format(time.RFC3339Nano))
	dst = append(dst, `,"message":`...)
	dst = wire.String(dst, e.Text)
	dst = append(dst, `,"info":`+info+`,"timestampUtc":`...)
	dst = wire.String(dst, now.UTC().Format(time.RFC3339Nano))
	return append(dst, '}')
}

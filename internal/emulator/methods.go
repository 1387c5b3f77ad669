package emulator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
)

// This file follows "Understand and invoke direct methods from IoT Hub".

const (
	maxMethodPayload       = 128 << 10
	defaultResponseTimeout = 30 * time.Second
	minResponseTimeout     = 5
	maxResponseTimeout     = 300
	maxConnectTimeout      = 300
)

// methodRequest is the body of a direct method call.
type methodRequest struct {
	methodCall
	connect time.Duration
}

// invokeMethod serves POST /twins/{id}/methods and that of a module.
func (x *exchange) invokeMethod() *apiError {
	body, refusal := x.jsonBody(maxMethodBody)
	if refusal != nil {
		return refusal
	}
	req, refusal := x.parseMethod(body)
	if refusal != nil {
		return refusal
	}
	m, refusal := x.store.look(x.route.device, x.route.module)
	if refusal != nil {
		return refusal.ofMethod()
	}
	if refusal = x.pass(m.device, methodCost(len(req.payload))); refusal != nil {
		return refusal
	}
	answer, refusal := x.callDevice(x.r.Context(), m, req)
	if refusal != nil {
		return refusal
	}
	b := append(x.buf[:0], `{"status":`...)
	b = strconv.AppendInt(b, int64(answer.status), 10)
	b = append(b, `,"payload":`...)
	if answer.payload == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, answer.payload...)
	}
	x.buf = append(b, '}')
	return x.done(200)
}

// parseMethod reads the body of a call without decoding the payload, which
// goes to the device as it came.
func (s *Server) parseMethod(body []byte) (methodRequest, *apiError) {
	req := methodRequest{methodCall: methodCall{timeout: defaultResponseTimeout}}
	var refusal *apiError
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		switch {
		case is(k.Str, "methodName"):
			if v.Type == gjson.String {
				req.name = v.Str
			}
		case is(k.Str, "payload"):
			req.payload = []byte(v.Raw)
		case is(k.Str, "responseTimeoutInSeconds"):
			req.timeout, refusal = seconds(k.Str, v, minResponseTimeout, maxResponseTimeout, defaultResponseTimeout)
		case is(k.Str, "connectTimeoutInSeconds"):
			req.connect, refusal = seconds(k.Str, v, 0, maxConnectTimeout, 0)
		}
		return refusal == nil
	})
	switch {
	case refusal != nil:
		return req, refusal.ofMethod()
	case req.name == "":
		return req, errArgument("The method name must not be empty.").ofMethod()
	case len(req.payload) > maxMethodPayload && s.does(knobBigPayload, "400"):
		return req, errArgument("The payload has %d bytes; the limit is %d.", len(req.payload), maxMethodPayload).ofMethod()
	case len(req.payload) > maxMethodPayload:
		return req, errTooLarge(maxMethodPayload).ofMethod()
	}
	return req, nil
}

// seconds reads a timeout. Null stands for the default.
func seconds(name string, v gjson.Result, least, most int64, fallback time.Duration) (time.Duration, *apiError) {
	if v.Type == gjson.Null {
		return fallback, nil
	}
	n, ok := integer(v)
	if !ok || n < least || n > most {
		return 0, errArgument("%s must be within [%d; %d].", name, least, most)
	}
	return time.Duration(n) * time.Second, nil
}

// integer reads a whole number. The hub takes one that comes as a text, too: the
// az client sends them so.
func integer(v gjson.Result) (int64, bool) {
	text := v.Raw
	if v.Type == gjson.String {
		text = v.Str
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && (v.Type == gjson.Number || v.Type == gjson.String)
}

// callDevice waits for the device if it may, hands it the call and says in the
// hub's words how that went.
func (s *Server) callDevice(ctx context.Context, m subject, req methodRequest) (methodAnswer, *apiError) {
	if disabled(m.rec) == 1 && s.does(knobDisabledDevice, "notFound") {
		return methodAnswer{}, errDeviceNotFound(m.id).ofMethod()
	}
	l := s.awaitLink(ctx, m, req.connect)
	if l == nil {
		return methodAnswer{}, errNotOnline(req.connect)
	}
	answer, err := l.invoke(ctx, req.methodCall)
	return answer, s.callRefusal(err)
}

// callRefusal says in the hub's words why a call has no answer.
func (s *Server) callRefusal(err error) *apiError {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoAnswer), errors.Is(err, errBadAnswer) && s.does(knobGarbageAnswer, "504"):
		return &apiError{status: 504, code: 504101, name: "GatewayTimeout", shape: shapeMethod, text: "Timed out waiting for the response from device."}
	case errors.Is(err, errLinkLost):
		return &apiError{status: 404, code: 404104, name: "DeviceConnectionClosedRemotely", shape: shapeMethod, text: "Device unavailable: its connection was closed."}
	case errors.Is(err, errBadAnswer):
		return &apiError{status: 502, code: 502000, name: "InvalidResponseWhileProxying", shape: shapeMethod, text: "The device's response cannot be used."}
	}
	return errAbandoned().ofMethod()
}

// errNotOnline says that no device took the call within the connect timeout.
func errNotOnline(waited time.Duration) *apiError {
	t := int(waited / time.Second)
	return &apiError{
		status: 404, code: 404103, name: "DeviceNotOnline", shape: shapeMethod,
		text: "The operation failed because the requested device isn't online or hasn't registered the direct method callback. To learn more, see https://aka.ms/iothub404103",
		info: fmt.Sprintf(`{"timeout":"%02d:%02d:%02d"}`, t/3600, t/60%60, t%60),
	}
}

// methodCost is what a call weighs in the hub's meter of direct methods, in
// steps of 4 KB of the request's payload.
func methodCost(payload int) int { return max(1, (payload+4095)/4096) }

package core

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
)

// The bounds of a call.
const (
	MaxMethodPayload       = 128 << 10
	defaultResponseTimeout = 30 * time.Second
	minResponseTimeout     = 5
	maxResponseTimeout     = 300
	maxConnectTimeout      = 300
)

// MethodRequest is the body of a direct method call.
type MethodRequest struct {
	MethodCall
	connect time.Duration
}

// ParseMethod reads the body of a call without decoding the payload, which
// goes to the device as it came.
func (s *Hub) ParseMethod(body []byte) (MethodRequest, *refuse.Error) {
	req := MethodRequest{MethodCall: MethodCall{Timeout: defaultResponseTimeout}}
	var refusal *refuse.Error
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		switch {
		case strings.EqualFold(k.Str, "methodName"):
			if v.Type == gjson.String {
				req.Name = v.Str
			}
		case strings.EqualFold(k.Str, "payload"):
			req.Payload = []byte(v.Raw)
		case strings.EqualFold(k.Str, "responseTimeoutInSeconds"):
			req.Timeout, refusal = seconds(k.Str, v, minResponseTimeout, maxResponseTimeout, defaultResponseTimeout)
		case strings.EqualFold(k.Str, "connectTimeoutInSeconds"):
			req.connect, refusal = seconds(k.Str, v, 0, maxConnectTimeout, 0)
		}
		return refusal == nil
	})
	switch {
	case refusal != nil:
		return req, refusal.OfMethod()
	case req.Name == "":
		return req, refuse.Argument("The method name must not be empty.").OfMethod()
	case len(req.Payload) > MaxMethodPayload && s.Does(knobBigPayload, "400"):
		return req, refuse.Argument("The payload has %d bytes; the limit is %d.", len(req.Payload), MaxMethodPayload).OfMethod()
	case len(req.Payload) > MaxMethodPayload:
		return req, refuse.TooLarge(MaxMethodPayload).OfMethod()
	}
	return req, nil
}

// seconds reads a timeout. Null stands for the default.
func seconds(name string, v gjson.Result, least, most int64, fallback time.Duration) (time.Duration, *refuse.Error) {
	if v.Type == gjson.Null {
		return fallback, nil
	}
	n, ok := Integer(v)
	if !ok || n < least || n > most {
		return 0, refuse.Argument("%s must be within [%d; %d].", name, least, most)
	}
	return time.Duration(n) * time.Second, nil
}

// Integer reads a whole number. The hub takes one that comes as a text, too: the
// az client sends them so.
func Integer(v gjson.Result) (int64, bool) {
	text := v.Raw
	if v.Type == gjson.String {
		text = v.Str
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && (v.Type == gjson.Number || v.Type == gjson.String)
}

// CallDevice waits for the device if it may, hands it the call and says in the
// hub's words how that went.
func (s *Hub) CallDevice(ctx context.Context, m store.Subject, req MethodRequest) (MethodAnswer, *refuse.Error) {
	if store.Disabled(m.Rec) == 1 && s.Does(knobDisabledDevice, "notFound") {
		return MethodAnswer{}, refuse.DeviceNotFound(m.ID).OfMethod()
	}
	l := s.awaitLink(ctx, m, req.connect)
	if l == nil {
		return MethodAnswer{}, errNotOnline(req.connect)
	}
	answer, err := l.Invoke(ctx, req.MethodCall)
	return answer, s.CallRefusal(err)
}

// CallRefusal says in the hub's words why a call has no answer.
func (s *Hub) CallRefusal(err error) *refuse.Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoAnswer), errors.Is(err, ErrBadAnswer) && s.Does(knobGarbageAnswer, "504"):
		return &refuse.Error{Status: 504, Code: 504101, Name: "GatewayTimeout", Shape: refuse.ShapeMethod, Text: "Timed out waiting for the response from device."}
	case errors.Is(err, ErrLinkLost):
		return &refuse.Error{Status: 404, Code: 404104, Name: "DeviceConnectionClosedRemotely", Shape: refuse.ShapeMethod, Text: "Device unavailable: its connection was closed."}
	case errors.Is(err, ErrBadAnswer):
		return &refuse.Error{Status: 502, Code: 502000, Name: "InvalidResponseWhileProxying", Shape: refuse.ShapeMethod, Text: "The device's response cannot be used."}
	}
	return errAbandoned().OfMethod()
}

// errNotOnline says that no device took the call within the connect timeout.
func errNotOnline(waited time.Duration) *refuse.Error {
	t := int(waited / time.Second)
	return &refuse.Error{
		Status: 404, Code: 404103, Name: "DeviceNotOnline", Shape: refuse.ShapeMethod,
		Text: "The operation failed because the requested device isn't online or hasn't registered the direct method callback. To learn more, see https://aka.ms/iothub404103",
		Info: fmt.Sprintf(`{"timeout":"%02d:%02d:%02d"}`, t/3600, t/60%60, t%60),
	}
}

// MethodCost is what a call weighs in the hub's meter of direct methods, in
// steps of 4 KB of the request's payload.
func MethodCost(payload int) int { return max(1, (payload+4095)/4096) }

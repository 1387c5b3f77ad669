package hubclient

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
)

// nothingHidden stands for a token whose secrets do not occur in the test.
func nothingHidden(s string) string { return s }

// quoted returns s as a JSON string.
func quoted(s string) string { return strconv.Quote(s) }

// TestRefusalShapes reads one answer of each known shape.
func TestRefusalShapes(t *testing.T) {
	inner := `{"errorCode":404103,"trackingId":"f00d-G:0-TimeStamp:11/22/2026","message":"Timed out waiting for device to connect.","info":{"timeout":"00:00:10"},"timestampUtc":"2026-11-22T00:00:00Z"}`
	offline := hub.Error{
		Kind: hub.KindOffline, Code: 404103, Name: "DeviceNotOnline", StatusCode: 404,
		TrackingID: "f00d-G:0-TimeStamp:11/22/2026", Message: "Timed out waiting for device to connect.",
	}
	tests := []struct {
		name   string
		status int
		header []string // in pairs
		body   string
		want   hub.Error
	}{
		{
			name: "A: name in the text, tracking id beside it", status: 404, header: []string{"iothub-errorcode", "DeviceNotFound"},
			body: `{"Message":"ErrorCode:DeviceNotFound;door-1","ExceptionMessage":"Tracking ID:ab12-G:3-TimeStamp:11/22/2026 10:00:00"}`,
			want: hub.Error{Kind: hub.KindNotFound, Code: 404001, Name: "DeviceNotFound", StatusCode: 404, Message: "door-1", TrackingID: "ab12-G:3-TimeStamp:11/22/2026 10:00:00"},
		},
		{
			name: "A of newer gateways, without the header", status: 401,
			body: `{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","ExceptionMessage":"Tracking ID:ab12-G2:-TimeStamp:2026-01-08T19:28:00.672603626Z"}`,
			want: hub.Error{Kind: hub.KindUnauthorized, Code: 401002, Name: "IotHubUnauthorizedAccess", StatusCode: 401, Message: "Unauthorized", TrackingID: "ab12-G2:-TimeStamp:2026-01-08T19:28:00.672603626Z"},
		},
		{
			name: "A with a long number for a name", status: 412,
			body: `{"Message":"ErrorCode:412001000;The etag does not match"}`,
			want: hub.Error{Kind: hub.KindPrecondition, Code: 412001, Name: "PreconditionFailed", StatusCode: 412, Message: "The etag does not match"},
		},
		{name: "B: JSON in a string", status: 404, body: `{"Message":` + quoted(inner) + `,"ExceptionMessage":""}`, want: offline},
		{
			name: "B without info, as a number in a string", status: 504,
			body: `{"Message":"{\"errorCode\":\"504101\",\"message\":\"Timed out waiting for the response from device.\",\"info\":null}"}`,
			want: hub.Error{Kind: hub.KindNoAnswer, Code: 504101, Name: "GatewayTimeout", StatusCode: 504, Message: "Timed out waiting for the response from device."},
		},
		{name: "C: the object itself", status: 404, body: `{"Message":` + inner + `}`, want: offline},
		{
			name: "D: one answer in another", status: 429,
			body: `{"Message":` + quoted(`ErrorCode:ThrottlingMaxActiveJobCountExceeded;Error: 429 {"Message":"ErrorCode:ThrottlingMaxActiveJobCountExceeded;1 job is running","ExceptionMessage":"Tracking ID:cd34"}`) + `}`,
			want: hub.Error{Kind: hub.KindThrottled, Code: 429004, Name: "ThrottlingMaxActiveJobCountExceeded", StatusCode: 429, Message: "1 job is running", TrackingID: "cd34"},
		},
		{
			name: "D with its quotes escaped once more", status: 429,
			body: `{"Message":` + quoted(`ErrorCode:ThrottlingException;Error: 429 {\"Message\":\"ErrorCode:ThrottlingException;slow down\"}`) + `}`,
			want: hub.Error{Kind: hub.KindThrottled, Code: 429001, Name: "ThrottlingException", StatusCode: 429, Message: "slow down"},
		},
		{name: "E: the object alone", status: 404, body: inner, want: offline},
		{
			name: "an inner object with a name", status: 400,
			body: `{"errorCode":"ArgumentInvalid","message":"responseTimeoutInSeconds must be within [5; 300]."}`,
			want: hub.Error{Kind: hub.KindInvalid, Code: 400004, Name: "ArgumentInvalid", StatusCode: 400, Message: "responseTimeoutInSeconds must be within [5; 300]."},
		},
		{
			name: "plain routing error", status: 405, header: []string{"x-ms-request-id", "9f"},
			body: `{"Message":"The requested resource does not support http method 'POST'."}`,
			want: hub.Error{Kind: hub.KindInvalid, StatusCode: 405, Message: "The requested resource does not support http method 'POST'.", TrackingID: "9f"},
		},
		{
			name: "a page of a gateway", status: 502, body: "<html>\r\n<head>bad gateway</head>",
			want: hub.Error{Kind: hub.KindNoAnswer, StatusCode: 502, Message: "<html>"},
		},
		{name: "nothing at all", status: 500, want: hub.Error{Kind: hub.KindServer, StatusCode: 500}},
		{
			name: "the header alone", status: 404, header: []string{"iothub-errorcode", "DeviceNotOnline"},
			want: hub.Error{Kind: hub.KindOffline, Code: 404103, Name: "DeviceNotOnline", StatusCode: 404},
		},
		{
			name: "a device that went away under the call, without a number", status: 404, body: `{"Message":"Device unavailable"}`,
			want: hub.Error{Kind: hub.KindNoAnswer, StatusCode: 404, Message: "Device unavailable"},
		},
		{
			name: "JSON that is no object", status: 503, body: `["busy"]`,
			want: hub.Error{Kind: hub.KindServer, StatusCode: 503},
		},
		{
			name: "a text without end", status: 500, body: `{"Message":"` + strings.Repeat("é", 3000) + `"}`,
			want: hub.Error{Kind: hub.KindServer, StatusCode: 500, Message: strings.Repeat("é", 512) + "..."},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := parseRefusal(tt.status, headerOf(tt.header...), []byte(tt.body), nothingHidden)
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func headerOf(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// TestRefusalKinds goes through the table of the hub's errors. Each arrives in
// three ways: by name in the header, by name in the text, by number.
func TestRefusalKinds(t *testing.T) {
	tests := []struct {
		code   int
		name   string
		status int
		want   hub.Kind
	}{
		{400001, "InvalidProtocolVersion", 400, hub.KindInvalid},
		{400003, "InvalidOperation", 400, hub.KindInvalid},
		{400004, "ArgumentInvalid", 400, hub.KindInvalid},
		{400005, "ArgumentNull", 400, hub.KindInvalid},
		{400006, "IotHubFormatError", 400, hub.KindInvalid},
		{400011, "DeviceDefinedMultipleTimes", 400, hub.KindInvalid},
		{400020, "InvalidStorageEndpointOrBlob", 400, hub.KindInvalid},
		{400021, "RequestCanceled", 400, hub.KindNoAnswer},
		{400023, "EtagDoesNotMatch", 400, hub.KindPrecondition},
		{400024, "RequestTimedOut", 400, hub.KindNoAnswer},
		{400027, "ConnectionForcefullyClosedOnNewConnection", 400, hub.KindNoAnswer},
		{400029, "ConnectionForcefullyClosedOnFaultInjection", 400, hub.KindNotReady},
		{400030, "ConnectionRejectedOnFaultInjection", 400, hub.KindNotReady},
		{401002, "IotHubUnauthorizedAccess", 401, hub.KindUnauthorized},
		{401003, "IotHubUnauthorized", 401, hub.KindUnauthorized},
		{403001, "IotHubSuspended", 403, hub.KindForbidden},
		{403002, "IotHubQuotaExceeded", 403, hub.KindNotReady},
		{403003, "JobQuotaExceeded", 403, hub.KindForbidden},
		{403010, "OperationNotAvailableInCurrentTier", 403, hub.KindForbidden},
		{403012, "DeviceDisabled", 403, hub.KindForbidden},
		{403800, "DeviceMaximumInflightMethodExceeded", 403, hub.KindNotReady},
		{404001, "DeviceNotFound", 404, hub.KindNotFound},
		{404002, "JobNotFound", 404, hub.KindNotFound},
		{404010, "ModuleNotFound", 404, hub.KindNotFound},
		{404012, "IotHubFailingOver", 404, hub.KindNotReady},
		{404103, "DeviceNotOnline", 404, hub.KindOffline},
		{404104, "DeviceConnectionClosedRemotely", 404, hub.KindNoAnswer},
		{409001, "DeviceAlreadyExists", 409, hub.KindConflict},
		{409104, "JobAlreadyExists", 409, hub.KindConflict},
		{409301, "ModuleAlreadyExistsOnDevice", 409, hub.KindConflict},
		{412001, "PreconditionFailed", 412, hub.KindPrecondition},
		{413001, "MessageTooLarge", 413, hub.KindInvalid},
		{413002, "TooManyDevices", 413, hub.KindInvalid},
		{413003, "TooManyModulesOnDevice", 413, hub.KindInvalid},
		{429000, "GenericTooManyRequests", 429, hub.KindThrottled},
		{429001, "ThrottlingException", 429, hub.KindThrottled},
		{429002, "ThrottleBacklogLimitExceeded", 429, hub.KindThrottled},
		{429003, "ThrottlingBacklogTimeout", 429, hub.KindThrottled},
		{429004, "ThrottlingMaxActiveJobCountExceeded", 429, hub.KindThrottled},
		{429005, "DeviceThrottlingLimitExceeded", 429, hub.KindThrottled},
		{499000, "ClientClosedRequest", 499, hub.KindNoAnswer},
		{500001, "ServerError", 500, hub.KindServer},
		{500008, "GenericTimeout", 500, hub.KindServer},
		{503001, "ServiceUnavailable", 503, hub.KindServer},
		{503003, "PartitionNotFound", 503, hub.KindServer},
		{504101, "GatewayTimeout", 504, hub.KindNoAnswer},
	}
	for _, tt := range tests {
		ways := []struct {
			way    string
			header http.Header
			body   string
		}{
			{"header", headerOf("iothub-errorcode", tt.name), ""},
			{"text", nil, fmt.Sprintf(`{"Message":"ErrorCode:%s;text"}`, tt.name)},
			{"number", nil, fmt.Sprintf(`{"Message":"{\"errorCode\":%d,\"message\":\"text\"}"}`, tt.code)},
		}
		for _, w := range ways {
			got := parseRefusal(tt.status, w.header, []byte(w.body), nothingHidden)
			if got.Kind != tt.want || got.Code != tt.code || got.Name != tt.name {
				t.Errorf("%s by %s: %s %d %s, want %s %d %s", tt.name, w.way, got.Kind, got.Code, got.Name, tt.want, tt.code, tt.name)
			}
		}
	}
}

// TestRefusalWithoutCode decides by the status alone.
func TestRefusalWithoutCode(t *testing.T) {
	tests := []struct {
		status int
		want   hub.Kind
	}{
		{400, hub.KindInvalid},
		{401, hub.KindUnauthorized},
		{403, hub.KindForbidden},
		{404, hub.KindNotFound},
		{405, hub.KindInvalid},
		{408, hub.KindServer},
		{409, hub.KindConflict},
		{412, hub.KindPrecondition},
		{413, hub.KindInvalid},
		{429, hub.KindThrottled},
		{500, hub.KindServer},
		{502, hub.KindNoAnswer},
		{503, hub.KindServer},
		{504, hub.KindNoAnswer},
		{302, hub.KindServer},
		{599, hub.KindServer},
	}
	for _, tt := range tests {
		if got := parseRefusal(tt.status, nil, nil, nothingHidden); got.Kind != tt.want {
			t.Errorf("HTTP %d = %s, want %s", tt.status, got.Kind, tt.want)
		}
	}
}

func TestWaitHint(t *testing.T) {
	throttled := "The request has been throttled. Wait %s and try again. Operation type: CRUD"
	tests := []struct {
		name, retryAfter, message string
		want                      time.Duration
	}{
		{name: "neither"},
		{name: "text", message: fmt.Sprintf(throttled, "10 seconds"), want: 10 * time.Second},
		{name: "text in the singular", message: fmt.Sprintf(throttled, "1 second"), want: time.Second},
		{name: "text with another unit", message: fmt.Sprintf(throttled, "10 minutes")},
		{name: "text without a number", message: fmt.Sprintf(throttled, "some seconds")},
		{name: "text beyond belief", message: fmt.Sprintf(throttled, "999999999999 seconds")},
		{name: "negative text", message: fmt.Sprintf(throttled, "-3 seconds")},
		{name: "header", retryAfter: "7", want: 7 * time.Second},
		{name: "header before text", retryAfter: "7", message: fmt.Sprintf(throttled, "10 seconds"), want: 7 * time.Second},
		{name: "header beyond belief", retryAfter: "9999999999999999", message: fmt.Sprintf(throttled, "10 seconds"), want: 10 * time.Second},
		{name: "negative header", retryAfter: "-1"},
		{name: "header with a date", retryAfter: "Sun, 22 Nov 2026 10:00:00 GMT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := `{"Message":` + quoted("ErrorCode:ThrottlingBacklogTimeout;"+tt.message) + `}`
			got := parseRefusal(http.StatusTooManyRequests, headerOf("Retry-After", tt.retryAfter), []byte(body), nothingHidden)
			if got.Wait != tt.want {
				t.Errorf("Wait = %v, want %v", got.Wait, tt.want)
			}
		})
	}
}

// FuzzRefusal plants a token wherever the input has a § and looks for its
// signature in all that is shown.
func FuzzRefusal(f *testing.F) {
	seeds := []string{
		`{"Message":"ErrorCode:DeviceNotFound;§","ExceptionMessage":"Tracking ID:§"}`,
		`{"Message":"{\"errorCode\":404103,\"trackingId\":\"§\",\"message\":\"§\",\"info\":{}}"}`,
		`{"Message":{"errorCode":"§","message":"x"}}`,
		`{"Message":"ErrorCode:§;Error: 429 {\\\"Message\\\":\\\"ErrorCode:ThrottlingException;§\\\"}"}`,
		`{"errorCode":504101}`, `{"Message":"ErrorCode:4290010;Wait 10 seconds §"}`, `<html>§`, "", `[]`, `{"Message":null}`,
	}
	for _, s := range seeds {
		f.Add(404, "DeviceNotOnline", "10", s)
		f.Add(429, "§", "§", s)
	}
	const signature = "c2VjcmV0c2lnbmF0dXJl"
	planted := "SharedAccessSignature sr=hub&sig=" + signature + "&se=1"
	f.Fuzz(func(t *testing.T, status int, name, retryAfter, body string) {
		plant := func(s string) string { return strings.ReplaceAll(s, "§", planted) }
		h := http.Header{"Iothub-Errorcode": {plant(name)}, "Retry-After": {plant(retryAfter)}, "X-Ms-Request-Id": {plant(name)}}
		e := parseRefusal(status, h, []byte(plant(body)), nothingHidden)
		if e.Kind < hub.KindNotSent || e.Kind > hub.KindBadAnswer {
			t.Errorf("kind = %d, which is none of the set", e.Kind)
		}
		if e.Wait < 0 || e.Wait > time.Hour {
			t.Errorf("wait = %v, want 0 to 1h", e.Wait)
		}
		for _, shown := range []string{fmt.Sprintf("%v", e), fmt.Sprintf("%#v", e), e.Name, e.TrackingID, e.Message} {
			if strings.Contains(shown, signature) {
				t.Errorf("the signature is shown: %q", shown)
			}
		}
		if len(e.Name) > maxName+3 || len(e.TrackingID) > maxName+3 || len(e.Message) > maxMessage+3 {
			t.Errorf("texts of %d, %d and %d bytes, want bounded ones", len(e.Name), len(e.TrackingID), len(e.Message))
		}
	})
}

// TestCodeTable: names and numbers find each other, and the device that is not
// online has two. Wherever a number says that the device may have acted, its
// status alone says nothing.
func TestCodeTable(t *testing.T) {
	if n := strings.Count(strings.TrimSpace(documented), "\n") + 1; len(codes().names) != n || n < 150 {
		t.Errorf("%d numbers in %d lines", len(codes().names), n)
	}
	for number, name := range codes().names {
		if got := codeOf(name); got != number && number != 404102 {
			t.Errorf("codeOf(%s) = %d, want %d", name, got, number)
		}
		if kindOfCode(number) == hub.KindNoAnswer && !hangsOnCode(number/1000) {
			t.Errorf("%d may have acted, and hangsOnCode(%d) is false", number, number/1000)
		}
	}
	if kind := kindOf(404, 404102); kind != hub.KindOffline || codeOf("DeviceNotOnline") != 404103 {
		t.Errorf("404102 is %s, DeviceNotOnline %d", kind, codeOf("DeviceNotOnline"))
	}
}

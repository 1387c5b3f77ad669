package wire_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

func TestParse(t *testing.T) {
	h, err := wire.Parse("HostName=hub.test:8443;SharedAccessKeyName=owner;SharedAccessKey=a2V5PT0=\n")
	if err != nil {
		t.Fatal(err)
	}
	if h.Host != "hub.test:8443" || h.Name() != "hub.test" || h.Policy != "owner" || h.Key != "a2V5PT0=" || h.MQTTAddr != "hub.test:8883" {
		t.Errorf("Parse = %+v", h)
	}
	for _, bad := range []string{"", "HostName", "HostName=h;SharedAccessKey=c2VjcmV0", "HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0"} {
		if _, err := wire.Parse(bad); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("Parse(%q) = %v, want an error without the key", bad, err)
		}
	}
}

// TestToken compares with a signature made by openssl from the same key.
func TestToken(t *testing.T) {
	ends := time.Unix(1893456000, 0)
	got, err := wire.Token("hub.test/devices/d 1", "c2VjcmV0a2V5", "", ends)
	const want = "SharedAccessSignature sr=hub.test%2Fdevices%2Fd+1&sig=yA995kikQywyDtBiFw7I5XBfCGlBOaKB7tJ2wLac1Z4%3D&se=1893456000"
	if err != nil || got != want {
		t.Errorf("Token = %s, %v\nwant    %s", got, err, want)
	}
	if got, err = wire.Token("hub.test", "c2VjcmV0a2V5", "owner", ends); err != nil || !strings.HasSuffix(got, "&se=1893456000&skn=owner") {
		t.Errorf("Token of a policy = %s, %v", got, err)
	}
	if _, err = wire.Token("hub.test", "not base64: secret", "", ends); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Token with a bad key: %v, want an error without the key", err)
	}
}

func TestAnswer(t *testing.T) {
	tests := []struct {
		name   string
		a      wire.Answer
		error  string
		code   int
		waited string
	}{
		{"of the gateway", wire.Answer{Body: []byte(`{"Message":"ErrorCode:DeviceNotFound;d","ExceptionMessage":"Tracking ID:1"}`)}, "DeviceNotFound", 0, ""},
		{"with the name in a header", wire.Answer{Header: http.Header{"Iothub-Errorcode": {"ThrottlingException"}}, Body: []byte("{}")}, "ThrottlingException", 0, ""},
		{
			"of a method",
			wire.Answer{Body: []byte(`{"Message":"{\"errorCode\":404103,\"info\":{\"timeout\":\"00:00:05\"}}","ExceptionMessage":""}`)},
			"", 404103, "00:00:05",
		},
		{"no error", wire.Answer{Body: []byte(`{"a":1}`)}, "", 0, ""},
		{"no JSON", wire.Answer{Body: []byte("<html>")}, "", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if name, code, waited := tt.a.Name(), tt.a.Code(), tt.a.Waited(); name != tt.error || code != tt.code || waited != tt.waited {
				t.Errorf("Name, Code, Waited = %q, %d, %q, want %q, %d, %q", name, code, waited, tt.error, tt.code, tt.waited)
			}
		})
	}
}

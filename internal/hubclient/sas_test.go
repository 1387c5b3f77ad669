package hubclient

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const testKey = "dGhpcyBpcyBub3QgdGhlIGtleSBvZiBhbnkgaHViLi4="

func TestParseConnectionString(t *testing.T) {
	const names = "SharedAccessKeyName=service;SharedAccessKey=" + testKey
	tests := []struct {
		name string
		in   string
		host string
		err  string // part of the message; "" for none
	}{
		{name: "plain", in: "HostName=contoso.azure-devices.net;" + names, host: "contoso.azure-devices.net"},
		{name: "another order", in: "SharedAccessKey=" + testKey + ";SharedAccessKeyName=service;HostName=h", host: "h"},
		{name: "with a port", in: "HostName=localhost:8443;" + names, host: "localhost:8443"},
		{name: "IPv6 with a port", in: "HostName=[::1]:8443;" + names, host: "[::1]:8443"},
		{name: "blanks and a line break", in: "  HostName=h ; SharedAccessKeyName=service;\nSharedAccessKey=" + testKey + "\n", host: "h"},
		{name: "semicolon at the end", in: "HostName=h;" + names + ";", host: "h"},
		{name: "unknown fields", in: "HostName=h;GatewayHostName=g;" + names, host: "h"},

		{name: "nothing", in: "", err: "no HostName"},
		{name: "no form", in: testKey, err: "no HostName"},
		{name: "a lone word", in: "hub", err: "not of the form"},
		{name: "no host", in: names, err: "no HostName"},
		{name: "empty host", in: "HostName=;" + names, err: "no HostName"},
		{name: "no policy", in: "HostName=h;SharedAccessKey=" + testKey, err: "no SharedAccessKeyName"},
		{name: "no key", in: "HostName=h;SharedAccessKeyName=service", err: "no SharedAccessKey"},
		{name: "a device's", in: "HostName=h;DeviceId=d;SharedAccessKey=" + testKey, err: "that of a device"},
		{name: "a SAS for a key", in: "HostName=h;SharedAccessSignature=SharedAccessSignature sr=h&sig=" + testKey, err: "no SharedAccessKeyName"},
		{name: "key cut off", in: "HostName=h;SharedAccessKeyName=s;SharedAccessKey=" + testKey[:41], err: "not base64"},
		{name: "key in quotes", in: `HostName=h;SharedAccessKeyName=s;SharedAccessKey="` + testKey + `"`, err: "not base64"},
		{name: "whole in quotes", in: `"HostName=h;` + names + `"`, err: "no HostName"},
		{name: "a URL for a host", in: "HostName=https://h;" + names, err: `"https://h"`},
		{name: "port out of range", in: "HostName=h:65536;" + names, err: "port outside 1..65535"},
		{name: "port of letters", in: "HostName=h:https;" + names, err: "port outside 1..65535"},
		{name: "port left out", in: "HostName=h:;" + names, err: "port outside 1..65535"},
		{name: "port without host", in: "HostName=:443;" + names, err: "not a host name"},
		{name: "IPv6 without brackets", in: "HostName=::1;" + names, err: "not a host or host:port"},
		{name: "host with a path", in: "HostName=h/twins;" + names, err: "not a host name"},
		{name: "host with a blank", in: "HostName=h h;" + names, err: "not a host name"},
		{name: "fields run into the host", in: "HostName=h,SharedAccessKey=" + testKey + ";" + names, err: "not a host name"},
		{name: "fields run into the port", in: "HostName=h:1 SharedAccessKey=" + testKey + ";" + names, err: "port outside"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseConnectionString(tt.in)
			checkError(t, err, tt.err)
			if err != nil {
				if strings.Contains(err.Error(), testKey[:20]) {
					t.Errorf("the error shows the key: %v", err)
				}
				return
			}
			if got.HostName != tt.host || got.KeyName != "service" || got.key != testKey {
				t.Errorf("ParseConnectionString = %q %q, want %q and the policy and key", got.HostName, got.KeyName, tt.host)
			}
		})
	}
}

func TestConnectionStringShowsNoKey(t *testing.T) {
	cs, err := ParseConnectionString("HostName=h;SharedAccessKeyName=service;SharedAccessKey=" + testKey)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(cs)
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ CS ConnectionString }{cs}
	for _, shown := range []string{
		cs.String(), fmt.Sprintf("%v %+v %#v %s %q", cs, cs, cs, cs, cs), fmt.Sprintf("%v %+v %#v", &cs, &cs, &cs),
		fmt.Sprintf("%v %+v %#v", holder, holder, holder), string(asJSON),
	} {
		if strings.Contains(shown, testKey) {
			t.Errorf("the key is shown: %s", shown)
		}
		if !strings.Contains(shown, "service") {
			t.Errorf("%q does not say which policy it is", shown)
		}
	}
}

func newTestCredential(t *testing.T) *credential {
	t.Helper()
	cs, err := ParseConnectionString("HostName=h:8443;SharedAccessKeyName=service;SharedAccessKey=" + testKey)
	if err != nil {
		t.Fatal(err)
	}
	return withKey(cs)
}

// TestTokenIsSignedOnce renews at three quarters of a token's life, to the second.
func TestTokenIsSignedOnce(t *testing.T) {
	s := newTestCredential(t)
	begin := time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC)
	at := func(after time.Duration) *token {
		t.Helper()
		tok, err := s.current(begin.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	first := at(0)
	if got := at(45*time.Minute - 1); got != first {
		t.Error("signed again before three quarters of the token's life")
	}
	second := at(45 * time.Minute)
	if second == first {
		t.Error("not signed again after three quarters of the token's life")
	}
	if got := at(45*time.Minute + time.Second); got != second {
		t.Error("the renewed token is not kept")
	}
	for _, c := range []struct {
		tok *token
		end time.Time
	}{{first, begin.Add(time.Hour)}, {second, begin.Add(45*time.Minute + time.Hour)}} {
		fields, err := url.ParseQuery(strings.TrimPrefix(c.tok.text, "SharedAccessSignature "))
		if err != nil {
			t.Fatal(err)
		}
		if want := strconv.FormatInt(c.end.Unix(), 10); fields.Get("se") != want {
			t.Errorf("token ends at %s, want %s", fields.Get("se"), want)
		}
	}
}

func TestTokenIsSharedByAll(t *testing.T) {
	s := newTestCredential(t)
	now := time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	tokens := map[*token]bool{}
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			tok, err := s.current(now)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			tokens[tok] = true
		})
	}
	group.Wait()
	if len(tokens) != 1 {
		t.Errorf("%d tokens were signed for 100 calls at once, want 1", len(tokens))
	}
}

// TestRenewalServesAll renews one token for two who found it refused.
func TestRenewalServesAll(t *testing.T) {
	s := newTestCredential(t)
	now := time.Date(2026, 11, 22, 23, 0, 0, 0, time.UTC)
	old, err := s.current(now)
	if err != nil {
		t.Fatal(err)
	}
	first, err1 := s.renew(old, now)
	second, err2 := s.renew(old, now)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if first == old || second != first {
		t.Error("the second to come signed again instead of taking what the first had signed")
	}
}

func TestRedact(t *testing.T) {
	tests := []struct{ in, want string }{
		{"nothing to hide: a=b", "nothing to hide: a=b"},
		{"see https://aka.ms/iothub404103 and mail a@b.c", "see https://aka.ms/iothub404103 and mail a@b.c"},
		{"SharedAccessSignature sr=h&sig=abc%3D&se=1", "SharedAccessSignature ***&sig=***&se=1"},
		{"x=1;sharedaccesskey=abc=;y=2", "x=1;sharedaccesskey=***;y=2"},
		{"Authorization: Bearer ey.J0.x, next", "Authorization: Bearer *** next"},
		{"dial http://user:pass@proxy:1: refused", "dial http://***@proxy:1: refused"},
	}
	for _, tt := range tests {
		if got := redact(tt.in); got != tt.want {
			t.Errorf("redact(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// Host names that mean the same hub are the same: locks and journals go by them.
func TestCanonicalHost(t *testing.T) {
	for host, want := range map[string]string{
		"Contoso.Azure-Devices.NET": "contoso.azure-devices.net", "contoso.azure-devices.net:443": "contoso.azure-devices.net",
		"contoso.azure-devices.net.": "contoso.azure-devices.net", "LocalHost.:8443": "localhost:8443", "localhost:4430": "localhost:4430",
	} {
		cs, err := ParseConnectionString("HostName=" + host + ";SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0")
		if err != nil || cs.HostName != want {
			t.Errorf("HostName=%s is %q, %v; want %q", host, cs.HostName, err, want)
		}
	}
}

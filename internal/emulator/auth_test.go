package emulator

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/access"
)

func keyOf(tb testing.TB, s *Server, policy string) string {
	tb.Helper()
	cs, ok := s.PolicyConnectionString(policy)
	if !ok {
		tb.Fatalf("no policy %q", policy)
	}
	_, key, _ := strings.Cut(cs, "SharedAccessKey=")
	return key
}

func TestTokens(t *testing.T) {
	h := newHub(t, doors)
	key := keyOf(t, h.Server, "iothubowner")
	soon := time.Now().Add(time.Hour)
	shuffled := func(token string) string {
		fields := strings.Split(strings.TrimPrefix(token, access.SasScheme), "&")
		return access.SasScheme + strings.Join([]string{fields[3], fields[2], fields[1], fields[0]}, "&")
	}
	good := sign(t, "localhost", key, "iothubowner", soon)
	cases := []struct {
		name, token string
		status      int
	}{
		{"good", good, 200},
		{"good again, from the cache", good, 200},
		{"fields in another order", shuffled(good), 200},
		{"with a port", sign(t, "localhost:8443", key, "iothubowner", soon), 200},
		{"host in capitals", sign(t, "LOCALHOST", key, "iothubowner", soon), 200},
		{"with a slash", sign(t, "localhost/", key, "iothubowner", soon), 200},
		{"secondary key", sign(t, "localhost", h.Keys.Policy("iothubowner").Fallback, "iothubowner", soon), 200},
		{"scope of the device", sign(t, "localhost/twins/door-0001", key, "iothubowner", soon), 200},
		{"scope of all twins", sign(t, "localhost/twins", key, "iothubowner", soon), 200},
		{"scope of another device", sign(t, "localhost/twins/door-0002", key, "iothubowner", soon), 401},
		{"scope of a part of a segment", sign(t, "localhost/twins/door-000", key, "iothubowner", soon), 401},
		{"scope below the path", sign(t, "localhost/twins/door-0001/methods", key, "iothubowner", soon), 401},
		{"another host", sign(t, "contoso.azure-devices.net", key, "iothubowner", soon), 401},
		{"expired", sign(t, "localhost", key, "iothubowner", time.Now().Add(-time.Second)), 401},
		{"another policy's key", sign(t, "localhost", keyOf(t, h.Server, "service"), "iothubowner", soon), 401},
		{"unknown policy", sign(t, "localhost", key, "nobody", soon), 401},
		{"without policy", sign(t, "localhost", key, "", soon), 401},
		{"tampered expiry", strings.Replace(good, "se="+fmt.Sprint(soon.Unix()), "se="+fmt.Sprint(soon.Unix()+1), 1), 401},
		{"tampered scope", strings.Replace(good, "sr=localhost", "sr=localhos%74", 1), 401},
		{"signature not escaped", mustUnescapeSig(t, good), 200},
		{"garbage", "SharedAccessSignature sr=&&%%%=", 401},
		{"basic", "Basic abc", 401},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := h.do(t, "GET", "/twins/door-0001", "", "Authorization", c.token).want(t, c.status)
			if c.status == 401 {
				a.refused(t, 401, "IotHubUnauthorizedAccess")
				if strings.Contains(a.body, key) {
					t.Error("the answer shows a key")
				}
			}
		})
	}
	h.do(t, "GET", "/twins/door-0001", "", "-Authorization", "").refused(t, 401, "IotHubUnauthorizedAccess")
}

func mustUnescapeSig(t *testing.T, token string) string {
	t.Helper()
	fields := strings.Split(token, "&")
	sig, err := url.QueryUnescape(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	fields[1] = sig
	return strings.Join(fields, "&")
}

func TestPermissions(t *testing.T) {
	requests := []struct {
		what, method, path, body string
		allowed                  string // the policies that may
	}{
		{"read a twin", "GET", "/twins/door-0001", "", "iothubowner service"},
		{"patch a twin", "PATCH", "/twins/door-0001", `{}`, "iothubowner service"},
		{"call a method", "POST", "/twins/door-0001/methods", `{"methodName":"lockDoor"}`, "iothubowner service"},
		{"query", "POST", "/devices/query", `{"query":"SELECT * FROM devices"}`, "iothubowner service"},
		{"read a device", "GET", "/devices/door-0001", "", "iothubowner registryRead registryReadWrite"},
		{"list devices", "GET", "/devices", "", "iothubowner registryRead registryReadWrite"},
		{"count devices", "GET", "/statistics/devices", "", "iothubowner registryRead registryReadWrite"},
		{"write a device", "PUT", "/devices/door-0001", "{}", "iothubowner registryReadWrite"},
		{"bulk", "POST", "/devices", "[]", "iothubowner registryReadWrite"},
		{"list jobs", "GET", "/jobs/v2/query", "", "iothubowner service registryReadWrite"},
	}
	h := newHub(t, doors)
	for _, r := range requests {
		for _, p := range h.Keys.Policies {
			t.Run(r.what+"/"+p.Name, func(t *testing.T) {
				token := signedBy(t, h.Server, p.Name, "localhost", time.Hour)
				headers := []string{"Authorization", token}
				if r.method == "PUT" {
					headers = append(headers, "If-Match", "*")
				}
				want := 401
				if strings.Contains(" "+r.allowed+" ", " "+p.Name+" ") {
					want = 200
				}
				h.do(t, r.method, r.path, r.body, headers...).want(t, want)
			})
		}
	}
}

func TestTokenExpiresWhileItIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors)
		h.token = signedBy(t, h.Server, "service", "localhost", time.Minute)
		h.do(t, "GET", "/twins/door-0001", "").want(t, 200)
		// Emulated time does not age tokens: clients sign by their own clock.
		if err := h.Advance(time.Hour); err != nil {
			t.Fatal(err)
		}
		h.do(t, "GET", "/twins/door-0001", "").want(t, 200)
		h.SetSkew(2 * time.Minute)
		h.do(t, "GET", "/twins/door-0001", "").refused(t, 401, "IotHubUnauthorizedAccess")
		h.SetSkew(0)
		time.Sleep(2 * time.Minute)
		h.do(t, "GET", "/twins/door-0001", "").refused(t, 401, "IotHubUnauthorizedAccess")
	})
}

func TestGrantCacheIsBounded(t *testing.T) {
	var c access.GrantCache
	for i := range 3 * access.MaxGrants {
		c.Keep(fmt.Sprint(i), &access.Grant{})
		if len(c.Grants) > access.MaxGrants {
			t.Fatalf("%d grants are kept, want at most %d", len(c.Grants), access.MaxGrants)
		}
	}
}

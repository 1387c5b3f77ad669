package emulator

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/emulator/fleet"
)

// doors is the fleet of most tests.
const doors = `
version: 1
seed: 7
devices:
  - idPattern: door-%04d
    count: 300
    tags: {building: 43, floor: 1}
    desired: {locked: true}
    methods:
      lockDoor: {status: 200, payload: {Response: locked}}
`

// testHub is a hub that does not listen, with a token that may do everything.
type testHub struct {
	*Server
	token string
}

func newHub(tb testing.TB, fleetFile string) testHub {
	tb.Helper()
	var f *fleet.Fleet
	if fleetFile != "" {
		var err error
		if f, err = fleet.Parse("fleet.yaml", []byte(fleetFile)); err != nil {
			tb.Fatalf("fleet.Parse: %v", err)
		}
	}
	return hubOf(tb, Options{Fleet: f})
}

func hubOf(tb testing.TB, opts Options) testHub {
	tb.Helper()
	s, err := New(opts)
	if err != nil {
		tb.Fatalf("New: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return testHub{Server: s, token: signedBy(tb, s, "iothubowner", "localhost", 1000*time.Hour)}
}

// sign makes a token as the documents say, without the code under test.
func sign(tb testing.TB, resource, key, policy string, ends time.Time) string {
	tb.Helper()
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		tb.Fatalf("key %q: %v", key, err)
	}
	sr, se := url.QueryEscape(resource), fmt.Sprint(ends.Unix())
	mac := hmac.New(sha256.New, raw)
	fmt.Fprintf(mac, "%s\n%s", sr, se)
	token := "SharedAccessSignature sr=" + sr + "&sig=" + url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))) + "&se=" + se
	if policy != "" {
		token += "&skn=" + policy
	}
	return token
}

func signedBy(tb testing.TB, s *Server, policy, resource string, life time.Duration) string {
	tb.Helper()
	cs, ok := s.PolicyConnectionString(policy)
	if !ok {
		tb.Fatalf("no policy %q", policy)
	}
	_, key, _ := strings.Cut(cs, "SharedAccessKey=")
	return sign(tb, resource, key, policy, time.Now().Add(life))
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request. Headers are pairs; "-Name" leaves one out.
func (h testHub) do(tb testing.TB, method, target, body string, headers ...string) answer {
	tb.Helper()
	if !strings.Contains(target, "api-version=") {
		if strings.Contains(target, "?") {
			target += "&"
		} else {
			target += "?"
		}
		target += "api-version=2021-04-12"
	}
	r := httptest.NewRequestWithContext(tb.Context(), method, "https://localhost"+target, strings.NewReader(body))
	r.Header.Set("Authorization", h.token)
	for i := 0; i+1 < len(headers); i += 2 {
		if name, ok := strings.CutPrefix(headers[i], "-"); ok {
			r.Header.Del(name)
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
}

// want fails the test unless the answer has the status.
func (a answer) want(tb testing.TB, status int) answer {
	tb.Helper()
	if a.status != status {
		tb.Fatalf("answered %d %s, want %d", a.status, a.body, status)
	}
	return a
}

// refused fails the test unless the answer is the hub's error of that name.
func (a answer) refused(tb testing.TB, status int, name string) answer {
	tb.Helper()
	a.want(tb, status)
	if got := a.header.Get("iothub-errorcode"); got != name {
		tb.Fatalf("iothub-errorcode = %q (%s), want %q", got, a.body, name)
	}
	return a
}

// doc decodes the body.
func (a answer) doc(tb testing.TB) map[string]any {
	tb.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		tb.Fatalf("body %s: %v", a.body, err)
	}
	return v
}

// rows decodes a body that is a list.
func (a answer) rows(tb testing.TB) []map[string]any {
	tb.Helper()
	var v []map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		tb.Fatalf("body %s: %v", a.body, err)
	}
	return v
}

// at steps into a decoded document.
func at(tb testing.TB, v any, path ...string) any {
	tb.Helper()
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			tb.Fatalf("%v: %q is not below an object", path, key)
		}
		v = m[key]
	}
	return v
}

func same(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func jsonOf(tb testing.TB, text string) any {
	tb.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return v
}

// try sends a request that need not be one. It says whether it was.
func (h testHub) try(tb testing.TB, method, target string, body []byte) (answer, bool) {
	tb.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Host != "" {
		return answer{}, false
	}
	u.RawQuery = "api-version=2021-04-12"
	r, err := http.NewRequestWithContext(tb.Context(), method, "https://localhost/", bytes.NewReader(body))
	if err != nil {
		return answer{}, false
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
	r.Header.Set("Authorization", h.token)
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}, true
}

// hubWith is newHub with more options.
func hubWith(tb testing.TB, fleetFile string, opts Options) testHub {
	tb.Helper()
	var err error
	if opts.Fleet, err = fleet.Parse("fleet.yaml", []byte(fleetFile)); err != nil {
		tb.Fatalf("fleet.Parse: %v", err)
	}
	return hubOf(tb, opts)
}

package emulator

import (
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

func newHub(t testing.TB, fleetFile string) testHub {
	t.Helper()
	var f *fleet.Fleet
	if fleetFile != "" {
		var err error
		if f, err = fleet.Parse("fleet.yaml", []byte(fleetFile)); err != nil {
			t.Fatalf("fleet.Parse: %v", err)
		}
	}
	return hubOf(t, Options{Fleet: f})
}

func hubOf(t testing.TB, opts Options) testHub {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return testHub{Server: s, token: signedBy(t, s, "iothubowner", "localhost", time.Hour)}
}

// sign makes a token as the documents say, without the code under test.
func sign(t testing.TB, resource, key, policy string, ends time.Time) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatalf("key %q: %v", key, err)
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

func signedBy(t testing.TB, s *Server, policy, resource string, life time.Duration) string {
	t.Helper()
	cs, ok := s.PolicyConnectionString(policy)
	if !ok {
		t.Fatalf("no policy %q", policy)
	}
	_, key, _ := strings.Cut(cs, "SharedAccessKey=")
	return sign(t, resource, key, policy, time.Now().Add(life))
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request. Headers are pairs; "-Name" leaves one out.
func (h testHub) do(t testing.TB, method, target, body string, headers ...string) answer {
	t.Helper()
	if !strings.Contains(target, "api-version=") {
		if strings.Contains(target, "?") {
			target += "&"
		} else {
			target += "?"
		}
		target += "api-version=2021-04-12"
	}
	r := httptest.NewRequestWithContext(t.Context(), method, "https://localhost"+target, strings.NewReader(body))
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
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("answered %d %s, want %d", a.status, a.body, status)
	}
	return a
}

// refused fails the test unless the answer is the hub's error of that name.
func (a answer) refused(t testing.TB, status int, name string) answer {
	t.Helper()
	a.want(t, status)
	if got := a.header.Get("iothub-errorcode"); got != name {
		t.Fatalf("iothub-errorcode = %q (%s), want %q", got, a.body, name)
	}
	return a
}

// doc decodes the body.
func (a answer) doc(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("body %s: %v", a.body, err)
	}
	return v
}

// rows decodes a body that is a list.
func (a answer) rows(t testing.TB) []map[string]any {
	t.Helper()
	var v []map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("body %s: %v", a.body, err)
	}
	return v
}

// at steps into a decoded document.
func at(t testing.TB, v any, path ...string) any {
	t.Helper()
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("%v: %q is not below an object", path, key)
		}
		v = m[key]
	}
	return v
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func jsonOf(t testing.TB, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

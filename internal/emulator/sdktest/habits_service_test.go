package sdktest_test

import (
	"bufio"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

// Clients that cannot be installed everywhere were recorded once: what is
// replayed here is what those recordings showed them to send. The Python
// service client is the tutorial's, the az CLI people's own.

// exchange is a request as a client writes it, and what must come back.
type exchange struct {
	what    string
	line    string   // without the version of HTTP; api-version is added
	headers []string // but for Host, Authorization and Content-Length
	body    string
	status  int
	want    []string // regular expressions of the answer's body
}

// speaker writes requests to one connection, byte by byte.
type speaker struct {
	t     *testing.T
	hub   *wire.Hub
	token string
	conn  net.Conn
	in    *bufio.Reader
}

func (h *testHub) tlsConfig(t *testing.T) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.caPEM(t))
	return &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// speak opens a connection. The token is made by shape from its fields.
func (h *testHub) speak(t *testing.T, shape func(sr, sig, se, skn string) string) *speaker {
	t.Helper()
	hub, err := wire.Parse(h.ServiceConnectionString)
	if err != nil {
		t.Fatal(err)
	}
	token, err := wire.Token(hub.Host, hub.Key, hub.Policy, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	fields, err := url.ParseQuery(strings.TrimPrefix(token, "SharedAccessSignature "))
	if err != nil {
		t.Fatal(err)
	}
	d := tls.Dialer{Config: h.tlsConfig(t)}
	conn, err := d.DialContext(t.Context(), "tcp", h.HTTPSAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &speaker{
		t: t, hub: hub, conn: conn, in: bufio.NewReader(conn),
		token: "SharedAccessSignature " + shape(url.QueryEscape(fields.Get("sr")), fields.Get("sig"), fields.Get("se"), fields.Get("skn")),
	}
}

// The forms of a token that were recorded.
func pythonToken(sr, sig, se, skn string) string {
	return fmt.Sprintf("sr=%s&sig=%s&se=%s&skn=%s", sr, url.QueryEscape(sig), se, skn)
}

func azToken(sr, sig, se, skn string) string {
	return fmt.Sprintf("sig=%s&se=%s&skn=%s&sr=%s", strings.NewReplacer("+", "%2B", "=", "%3D").Replace(sig), se, skn, sr)
}

// say sends a request with its headers in the order given, and again with
// that turned round if it may be repeated. Nothing may depend on the order.
func (s *speaker) say(x exchange) string {
	s.t.Helper()
	headers := slices.Concat([]string{"Host: " + s.hub.Host}, x.headers, []string{"Authorization: " + s.token})
	if x.body != "" {
		headers = append(headers, fmt.Sprintf("Content-Length: %d", len(x.body)))
	}
	body := s.once(x, headers)
	if strings.HasPrefix(x.line, "GET ") {
		slices.Reverse(headers)
		s.once(x, headers)
	}
	return body
}

func (s *speaker) once(x exchange, headers []string) string {
	s.t.Helper()
	line := x.line
	if !strings.Contains(line, "?") {
		line += "?api-version=2021-04-12"
	}
	text := line + " HTTP/1.1\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n" + x.body
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.t.Fatalf("%s: %v", x.what, err)
	}
	res, err := http.ReadResponse(s.in, nil)
	if err != nil {
		s.t.Fatalf("%s: %v", x.what, err)
	}
	defer res.Body.Close()
	body, err := readBody(res)
	if err != nil {
		s.t.Fatalf("%s: %v", x.what, err)
	}
	if res.StatusCode != x.status {
		s.t.Fatalf("%s: %s answered %d %s, want %d", x.what, line, res.StatusCode, body, x.status)
	}
	for _, want := range x.want {
		if !regexp.MustCompile(want).Match(body) {
			s.t.Errorf("%s: answered %s, want %s in it", x.what, body, want)
		}
	}
	// Python reads times with a fixed list of forms, none of which has an offset.
	if offset := regexp.MustCompile(`"\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:?\d\d"`).Find(body); offset != nil {
		s.t.Errorf("%s: the time %s has an offset", x.what, offset)
	}
	if kind := res.Header.Get("Content-Type"); len(body) > 0 && !strings.HasPrefix(kind, "application/json") {
		s.t.Errorf("%s: Content-Type %q, want JSON", x.what, kind)
	}
	return string(body)
}

func readBody(res *http.Response) ([]byte, error) {
	if res.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(res.Body)
	}
	z, err := gzip.NewReader(res.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// pythonHeaders are those of every request, GET included.
func pythonHeaders(more ...string) []string {
	return append([]string{
		"User-Agent: py-azure-iot-hub/2.6", "Accept-Encoding: gzip, deflate", "Accept: application/json",
		"Connection: keep-alive", "Content-Type: application/json; charset=utf-8",
	}, more...)
}

// TestTutorialService replays what scheduleJobService.py sends, against the
// tutorial's device, which is simulated.
func TestTutorialService(t *testing.T) {
	t.Parallel()
	h := startHub(t, anyPorts("localhost"), "version: 1\ndevices:\n  - id: myDevice\n    methods: {lockDoor: {payload: {Response: lockDoor called successfully}}}\n")
	s := h.speak(t, pythonToken)
	query := exchange{
		what: "query_condition", line: "POST /devices/query", headers: pythonHeaders("x-ms-max-item-count: 1"), status: 200,
		body: `{"query": "SELECT * FROM devices WHERE deviceId = 'myDevice'"}`, want: []string{`^\[\{"deviceId":"myDevice"`},
	}
	s.say(query)
	twin := s.say(exchange{what: "get_twin", line: "GET /twins/myDevice", headers: pythonHeaders(), status: 200, want: []string{`"etag":"`}})
	etag := regexp.MustCompile(`"etag":"([^"]*)"`).FindStringSubmatch(twin)[1]
	patch := exchange{
		what: "update_twin", line: "PATCH /twins/myDevice", headers: pythonHeaders(`If-Match: "` + etag + `"`), status: 200,
		body: `{"properties": {"desired": {"building": 43, "floor": 3}}}`,
		want: []string{`"desired":\{"building":43,"floor":3,`, `"reported":\{"building":43,"floor":3,`},
	}
	s.say(patch)
	patch.what, patch.status, patch.want = "update_twin with the etag of before", 412, []string{"ErrorCode:PreconditionFailed;"}
	s.say(patch)
	s.say(query)
	s.say(exchange{
		what: "invoke_device_method", line: "POST /twins/myDevice/methods", headers: pythonHeaders(), status: 200,
		body: `{"methodName": "lockDoor", "payload": "{\"lockTime\":\"10m\"}"}`, want: []string{`^\{"status":200,"payload":\{"Response":"lockDoor called successfully"\}\}$`},
	})
	if got := h.executed(t, "myDevice"); got.Methods != 1 || got.Patches != 1 {
		t.Errorf("the device executed %+v, want one method and one patch", got)
	}
}

// TestPythonServiceHabits replays what else the client was seen to send.
func TestPythonServiceHabits(t *testing.T) {
	t.Parallel()
	h := startHub(t, anyPorts("localhost"), doors)
	s := h.speak(t, pythonToken)
	for _, x := range []exchange{
		{
			what: "create with empty keys", line: "PUT /devices/py-1", headers: pythonHeaders(), status: 200,
			body: `{"deviceId": "py-1", "status": "enabled", "authentication": {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}}}`,
			want: []string{`"primaryKey":"[^"]{44}"`, `"secondaryKey":"[^"]{44}"`},
		},
		{
			what: "create with an empty symmetricKey", line: "PUT /devices/py-2", headers: pythonHeaders(), status: 200,
			body: `{"deviceId": "py-2", "authentication": {"type": "sas", "symmetricKey": {}}}`, want: []string{`"primaryKey":"[^"]{44}"`},
		},
		{
			what: "create without authentication", line: "PUT /devices/py-3", headers: pythonHeaders(), status: 200,
			body: `{"deviceId": "py-3"}`, want: []string{`"primaryKey":"[^"]{44}"`},
		},
		{what: "create again", line: "PUT /devices/py-3", headers: pythonHeaders(), status: 409, body: `{"deviceId": "py-3"}`, want: []string{"ErrorCode:DeviceAlreadyExists;"}},
		{what: "update with any etag", line: "PUT /devices/py-3", headers: pythonHeaders(`If-Match: "*"`), status: 200, body: `{"deviceId": "py-3", "status": "disabled"}`, want: []string{`"status":"disabled"`}},
		{what: "an unknown device", line: "GET /devices/nobody", headers: pythonHeaders(), status: 404, want: []string{`^\{"Message":"ErrorCode:DeviceNotFound;`}},
		{what: "a method on an unknown device", line: "POST /twins/nobody/methods", headers: pythonHeaders(), status: 404, body: `{"methodName": "m", "payload": ""}`, want: []string{`^\{"Message":"\{\\"errorCode\\":404001,`}},
		{what: "delete with any etag", line: "DELETE /devices/py-3", headers: pythonHeaders(`If-Match: "*"`), status: 204},
	} {
		s.say(x)
	}
}

// TestPythonRepeats shows what the tutorial's client does when the hub's answer
// gets lost: it sends a method again, three times, and the device runs it
// again each time. The emulator counts what really ran.
func TestPythonRepeats(t *testing.T) {
	t.Parallel()
	h := startHub(t, anyPorts("localhost"), doors+"  - {fault: badGateway, operations: [method], devices: [hall], calls: 1-3}\n")
	s := h.speak(t, pythonToken)
	call := exchange{what: "invoke_device_method", line: "POST /twins/hall/methods", headers: pythonHeaders(), body: `{"methodName": "lockDoor"}`, status: 502}
	for range 3 {
		s.say(call)
	}
	call.status = 200
	s.say(call)
	if got := h.executed(t, "hall"); got.Methods != 4 {
		t.Errorf("the device executed %+v, want the call and its three repetitions", got)
	}
}

// TestAzHabits replays az iot hub: identities, twins, and jobs from their
// making to their end.
func TestAzHabits(t *testing.T) {
	t.Parallel()
	h := startHub(t, anyPorts("localhost"), doors)
	s := h.speak(t, azToken)
	headers := func(more ...string) []string {
		return append([]string{"x-ms-client-request-id: 1d6b0b7c-0000-4000-8000-000000000001", "Accept: application/json", "Content-Type: application/json; charset=utf-8", "accept-language: en-US", "Accept-Encoding: gzip"}, more...)
	}
	job := func(id, more string) string {
		return `{"jobId": "` + id + `", "type": "scheduleUpdateTwin", "updateTwin": {"tags": {"note": "with spaces, and commas"}, "etag": "*"}, "queryCondition": "deviceId = 'door-001'", "maxExecutionTimeInSeconds": 3600` + more + `}`
	}
	later := time.Now().Add(144 * time.Hour).UTC().Format("2006-01-02T15:04:05.000000000Z")
	for _, x := range []exchange{
		{what: "list, with a slash at the end", line: "GET /devices/?top=2&api-version=2021-04-12", headers: headers(), status: 200, want: []string{`^\[\{"deviceId":"door-001".*\},\{"deviceId":"door-002"`}},
		{what: "query, with a key in upper case", line: "POST /devices/query", headers: headers(), status: 200, body: `{"Query": "SELECT * FROM devices WHERE deviceId = 'gone'"}`, want: []string{`^\[\{"deviceId":"gone"`}},
		{what: "a page larger than there is", line: "POST /devices/query", headers: headers("x-ms-max-item-count: 1000"), status: 200, body: `{"query": "SELECT deviceId FROM devices"}`, want: []string{`"gone"`}},
		{what: "twin, with a bare star", line: "PATCH /twins/door-001", headers: headers("If-Match: *"), status: 200, body: `{"properties": {"desired": {"a": [1, {"b": "c"}]}}}`, want: []string{`"a":\[1,\{"b":"c"\}\]`}},
		{what: "bulk, with a mode in upper case", line: "POST /devices", headers: headers(), status: 200, body: `[{"id": "az-1", "importMode": "CREATE", "unheardOf": 1}]`, want: []string{`"isSuccessful":true`}},
		{what: "update, with a bare star", line: "PUT /devices/az-1", headers: headers("If-Match: *"), status: 200, body: `{"deviceId": "az-1", "status": "disabled"}`, want: []string{`"status":"disabled"`}},
		{what: "an answer that is worth zipping", line: "GET /devices", headers: headers(), status: 200, want: []string{`"deviceId":"door-025"`}},
		{what: "no jobs of the old kind", line: "GET /jobs", headers: headers(), status: 200, want: []string{`^\[\]$`}},
		{what: "a job for now", line: "PUT /jobs/v2/az-now", headers: headers(), status: 200, body: job("az-now", ""), want: []string{`"jobId":"az-now"`}},
		{what: "a job with nanoseconds and a key that nobody knows", line: "PUT /jobs/v2/az-later", headers: headers(), status: 200, body: job("az-later", `, "startTime": "`+later+`", "unheardOf": null`)},
		{what: "all jobs", line: "GET /jobs/v2/query", headers: headers("x-ms-max-item-count: 100"), status: 200, want: []string{`"jobId":"az-now"`, `"jobId":"az-later"`}},
		{what: "look before cancelling", line: "GET /jobs/v2/az-later", headers: headers(), status: 200, want: []string{`"status":"scheduled"`}},
		{what: "cancel", line: "POST /jobs/v2/az-later/cancel", headers: headers("Content-Length: 0"), status: 200},
		{what: "look afterwards", line: "GET /jobs/v2/az-later", headers: headers(), status: 200, want: []string{`"status":"cancelled"`}},
		{what: "an old job of that id", line: "GET /jobs/az-later", headers: headers(), status: 404},
	} {
		s.say(x)
	}
	if twin := h.control(t, "/v1/twins/door-001"); !strings.Contains(string(twin), `"note":"with spaces, and commas"`) {
		t.Errorf("the job's patch is not in the twin %s", twin)
	}
}

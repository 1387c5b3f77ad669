package hubclient_test

import (
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
)

// TestRequests compares what goes on the wire, byte by byte.
func TestRequests(t *testing.T) {
	odd := hub.Target{DeviceID: "a#b?c%d/e+f;g h", ModuleID: "m/$1"}
	tests := []struct {
		name   string
		answer string
		run    func(context.Context, *hubclient.Client) error
		line   string
		header map[string]string // "" means absent
		body   string
	}{
		{
			name: "first page", answer: `[]`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.Query(ctx, hub.Query{Text: `SELECT * FROM devices WHERE tags.a = 'é"\'`, PageSize: 100})
				return err
			},
			line:   "POST /devices/query?api-version=2021-04-12",
			header: map[string]string{"X-Ms-Max-Item-Count": "100", "X-Ms-Continuation": "", "If-Match": ""},
			body:   `{"query":"SELECT * FROM devices WHERE tags.a = 'é\"\\'"}`,
		},
		{
			name: "next page repeats text and size", answer: `[]`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.Query(ctx, hub.Query{Text: "SELECT * FROM devices", PageSize: 7, Continuation: "W3siY29+/=="})
				return err
			},
			line:   "POST /devices/query?api-version=2021-04-12",
			header: map[string]string{"X-Ms-Max-Item-Count": "7", "X-Ms-Continuation": "W3siY29+/=="},
			body:   `{"query":"SELECT * FROM devices"}`,
		},
		{
			name: "page size left to the hub", answer: `[]`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.Query(ctx, hub.Query{Text: "q"})
				return err
			},
			line:   "POST /devices/query?api-version=2021-04-12",
			header: map[string]string{"X-Ms-Max-Item-Count": ""},
			body:   `{"query":"q"}`,
		},
		{
			name: "twin of a module with an odd name", answer: `{"etag":"x"}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.Twin(ctx, odd)
				return err
			},
			line: "GET /twins/a%23b%3Fc%25d%2Fe%2Bf%3Bg%20h/modules/m%2F%241?api-version=2021-04-12",
		},
		{
			name: "a job that calls a method", answer: `{"jobId":"a-1","status":"queued"}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				return c.CreateJob(ctx, hub.NewJob{
					ID: "a-1", Condition: "deviceId IN ['d\\'1']", Start: time.Date(2026, 12, 1, 2, 0, 0, 0, time.FixedZone("", 3600)), Within: 90*time.Second + 1,
					Call: &hub.Call{Method: "lock", Payload: []byte(`{"n":1}`), ConnectTimeout: 5 * time.Second, ResponseTimeout: 30 * time.Second},
				})
			},
			line: "PUT /jobs/v2/a-1?api-version=2021-04-12",
			body: `{"jobId":"a-1","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"lock","payload":{"n":1},"connectTimeoutInSeconds":5,"responseTimeoutInSeconds":30},"queryCondition":"deviceId IN ['d\\'1']","startTime":"2026-12-01T01:00:00Z","maxExecutionTimeInSeconds":91}`,
		},
		{
			name: "a job that patches twins", answer: `{"jobId":"a-1","status":"queued"}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				return c.CreateJob(ctx, hub.NewJob{ID: "a-1", Condition: "*", Patch: &hub.Patch{Tags: []byte(`{"a":1}`), Desired: []byte(`{"b":null}`)}})
			},
			line: "PUT /jobs/v2/a-1?api-version=2021-04-12",
			body: `{"jobId":"a-1","type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"a":1},"properties":{"desired":{"b":null}}},"queryCondition":"*"}`,
		},
		{
			name: "a job is cancelled", answer: `{"jobId":"a-1","status":"cancelled"}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.CancelJob(ctx, "a-1")
				return err
			},
			line: "POST /jobs/v2/a-1/cancel?api-version=2021-04-12", header: map[string]string{"Content-Length": "0"},
		},
		{
			name: "jobs of a kind", answer: `[]`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.Jobs(ctx, hub.JobFilter{Type: hub.JobTwin, Status: hub.JobRunning, PageSize: 20, Continuation: "next"})
				return err
			},
			line:   "GET /jobs/v2/query?api-version=2021-04-12&jobType=scheduleUpdateTwin&jobStatus=running",
			header: map[string]string{"X-Ms-Max-Item-Count": "20", "X-Ms-Continuation": "next"},
		},
		{
			name: "patch of both sections", answer: `{"etag":"x"}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				p := hub.Patch{Tags: []byte(`{"moved":true}`), Desired: []byte(`{"n":12345678901234567890,"floor":null}`)}
				_, err := c.PatchTwin(ctx, door(), p, "AAAAAAAAAAc=")
				return err
			},
			line:   "PATCH /twins/door-1?api-version=2021-04-12",
			header: map[string]string{"If-Match": `"AAAAAAAAAAc="`},
			body:   `{"tags":{"moved":true},"properties":{"desired":{"n":12345678901234567890,"floor":null}}}`,
		},
		{
			name: "patch of tags, unconditional", answer: `{"etag":"x"}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.PatchTwin(ctx, door(), hub.Patch{Tags: []byte(`{"a":1}`)}, hub.AnyETag)
				return err
			},
			line:   "PATCH /twins/door-1?api-version=2021-04-12",
			header: map[string]string{"If-Match": `"*"`},
			body:   `{"tags":{"a":1}}`,
		},
		{
			name: "patch of desired", answer: `{"etag":"x"}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.PatchTwin(ctx, door(), hub.Patch{Desired: []byte(`{}`)}, "e")
				return err
			},
			line: "PATCH /twins/door-1?api-version=2021-04-12",
			body: `{"properties":{"desired":{}}}`,
		},
		{
			name: "method with a payload kept as it is", answer: `{"status":200}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.Invoke(ctx, door(), hub.Call{
					Method: `lock"Door`, Payload: []byte(`[1.50, "<é>", 98765432109876543210]`),
					ConnectTimeout: 10 * time.Second, ResponseTimeout: 60 * time.Second,
				})
				return err
			},
			line:   "POST /twins/door-1/methods?api-version=2021-04-12",
			header: map[string]string{"Content-Type": "application/json; charset=utf-8", "User-Agent": "test/1"},
			body: `{"methodName":"lock\"Door","payload":[1.50, "<é>", 98765432109876543210],` +
				`"connectTimeoutInSeconds":10,"responseTimeoutInSeconds":60}`,
		},
		{
			name: "method on a module, null payload, times rounded up", answer: `{"status":200}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.Invoke(ctx, hub.Target{DeviceID: "d", ModuleID: "m"}, hub.Call{
					Method: "go", Payload: []byte(`null`), ConnectTimeout: 1, ResponseTimeout: 5*time.Second + 1,
				})
				return err
			},
			line: "POST /twins/d/modules/m/methods?api-version=2021-04-12",
			body: `{"methodName":"go","payload":null,"connectTimeoutInSeconds":1,"responseTimeoutInSeconds":6}`,
		},
		{
			name: "method without a payload", answer: `{"status":200}`,
			run: func(ctx context.Context, c *hubclient.Client) error {
				_, err := c.Invoke(ctx, door(), hub.Call{Method: "go", ResponseTimeout: 5 * time.Second})
				return err
			},
			line: "POST /twins/door-1/methods?api-version=2021-04-12",
			body: `{"methodName":"go","connectTimeoutInSeconds":0,"responseTimeoutInSeconds":5}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newFakeHub(t, respond(http.StatusOK, tt.answer))
			if err := tt.run(t.Context(), h.client(t, nil)); err != nil {
				t.Fatal(err)
			}
			seen := h.requests()
			if len(seen) != 1 {
				t.Fatalf("the hub saw %d requests, want 1", len(seen))
			}
			got := seen[0]
			if diff := cmp.Diff(tt.line, got.line); diff != "" {
				t.Errorf("request line (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.body, got.body); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			for name, want := range tt.header {
				if value := got.header.Get(name); value != want {
					t.Errorf("header %s = %q, want %q", name, value, want)
				}
			}
			if got.host != h.address() {
				t.Errorf("Host = %q, want %q", got.host, h.address())
			}
			checkToken(t, got.header.Get("Authorization"))
		})
	}
}

// checkToken verifies a token as a hub does: it signs sr as it stands and
// compares. The resource is the host without its port.
func checkToken(t *testing.T, token string) {
	t.Helper()
	text, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	fields, err := url.ParseQuery(text)
	if !ok || err != nil {
		t.Fatalf("Authorization %q is not a SAS token", token)
	}
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s\n%s", url.QueryEscape(fields.Get("sr")), fields.Get("se"))
	if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); fields.Get("sig") != want {
		t.Errorf("sig = %q, want %q", fields.Get("sig"), want)
	}
	if fields.Get("sr") != "127.0.0.1" || fields.Get("skn") != "service" {
		t.Errorf("sr = %q, skn = %q, want the host without port and the policy", fields.Get("sr"), fields.Get("skn"))
	}
}

func TestQueryPage(t *testing.T) {
	body := `[{"deviceId":"a","etag":"e1","tags":{"x":1},"desired":{"y":[2]}},{"DeviceId":"b","ModuleID":"m","ETag":"e2","tags":null}]`
	h := newFakeHub(t, respond(http.StatusOK, body, "x-ms-continuation", "next", "x-ms-item-type", "Raw"))
	got, err := h.client(t, nil).Query(t.Context(), hub.Query{Text: "q"})
	if err != nil {
		t.Fatal(err)
	}
	want := hub.Page{Continuation: "next", Rows: []hub.Row{
		{Target: hub.Target{DeviceID: "a"}, ETag: "e1", Tags: []byte(`{"x":1}`), Desired: []byte(`{"y":[2]}`)},
		{Target: hub.Target{DeviceID: "b", ModuleID: "m"}, ETag: "e2"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}

// TestQueryEmptyPageGoesOn keeps an empty page with a token apart from the end.
func TestQueryEmptyPageGoesOn(t *testing.T) {
	h := newFakeHub(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Ms-Continuation") == "" {
			respond(http.StatusOK, `[]`, "x-ms-continuation", "more")(w, r)
			return
		}
		respond(http.StatusOK, `[{"deviceId":"late"}]`)(w, r)
	})
	c := h.client(t, nil)
	first, err := c.Query(t.Context(), hub.Query{Text: "q", PageSize: 5})
	if err != nil || len(first.Rows) != 0 || first.Continuation != "more" {
		t.Fatalf("first page = %+v, %v, want no rows and a continuation", first, err)
	}
	second, err := c.Query(t.Context(), hub.Query{Text: "q", PageSize: 5, Continuation: first.Continuation})
	if err != nil || len(second.Rows) != 1 || second.Continuation != "" {
		t.Fatalf("second page = %+v, %v, want one row and the end", second, err)
	}
}

// TestGzip answers compressed, as the hub does to whoever accepts it.
func TestGzip(t *testing.T) {
	h := newFakeHub(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Errorf("Accept-Encoding = %q, want gzip", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, `{"status":207,"payload":"`+strings.Repeat("long ", 2000)+`"}`)
		_ = z.Close()
	})
	got, err := h.client(t, nil).Invoke(t.Context(), door(), call())
	if err != nil || got.Status != 207 || len(got.Payload) != 10002 {
		t.Errorf("Invoke = %d with %d bytes, %v, want 207 with 10002 bytes", got.Status, len(got.Payload), err)
	}
}

// TestBadAnswers answers 200 with what is no answer: the hub acted, and the
// caller must know that.
func TestBadAnswers(t *testing.T) {
	for _, body := range []string{``, `{`, `<html>`, `"text"`, `7`, `null`, `{}`, `[`, `[{}]`, `[1]`, `[{"deviceId":5}]`} {
		h := newFakeHub(t, respond(http.StatusOK, body))
		c := h.client(t, nil)
		for _, op := range operations() {
			err := op.run(t.Context(), c)
			e := refusalOf(t, err)
			if e.Kind != hub.KindBadAnswer || e.StatusCode != http.StatusOK || e.Message == "" {
				t.Errorf("%s answered %q: %s (HTTP %d) %q, want %s with a message",
					op.name, body, e.Kind, e.StatusCode, e.Message, hub.KindBadAnswer)
			}
		}
	}
}

// TestTooLongAnswers sends more than is read, openly and compressed.
func TestTooLongAnswers(t *testing.T) {
	const tooMuch = 8<<20 + 1
	tests := []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"announced", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(tooMuch))
			w.WriteHeader(http.StatusOK)
		}},
		{"unannounced", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.CopyN(w, blanks{}, tooMuch)
		}},
		{"compressed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.CopyN(z, blanks{}, tooMuch)
			_ = z.Close()
		}},
		{"of brackets, which would overflow the stack", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.CopyN(w, brackets{}, tooMuch-1)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newFakeHub(t, tt.answer)
			_, err := h.client(t, nil).Invoke(t.Context(), door(), call())
			if e := refusalOf(t, err); e.Kind != hub.KindBadAnswer {
				t.Errorf("error = %s %v, want %s", e.Kind, err, hub.KindBadAnswer)
			}
		})
	}
}

// blanks and brackets read as endless bytes of one kind.
type (
	blanks   struct{}
	brackets struct{}
)

func (blanks) Read(p []byte) (int, error)   { return fill(p, ' ') }
func (brackets) Read(p []byte) (int, error) { return fill(p, '[') }

func fill(p []byte, b byte) (int, error) {
	for i := range p {
		p[i] = b
	}
	return len(p), nil
}

func TestCount(t *testing.T) {
	for body, want := range map[string]int{`[{"n":40}]`: 40, `[{"n":0}]`: 0, `[]`: -1, `[{"n":"40"}]`: -1, `[{"n":-1}]`: -1} {
		n, err := newFakeHub(t, respond(http.StatusOK, body)).client(t, nil).Count(t.Context(), "SELECT COUNT() AS n FROM devices")
		if want >= 0 && (n != want || err != nil) {
			t.Errorf("%s: %d, %v", body, n, err)
		}
		if want < 0 && refusalOf(t, err).Kind != hub.KindBadAnswer {
			t.Errorf("%s: %d, %v; want %s", body, n, err, hub.KindBadAnswer)
		}
	}
}

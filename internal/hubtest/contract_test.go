package hubtest_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/hubtest"
)

// call is what a contract file asks of the client.
type call struct {
	Op              string          `json:"op"` // query, twin, patch, invoke
	Device          string          `json:"device"`
	Module          string          `json:"module"`
	Query           string          `json:"query"`
	PageSize        int             `json:"pageSize"`
	Continuation    string          `json:"continuation"`
	IfMatch         string          `json:"ifMatch"`
	Tags            json.RawMessage `json:"tags"`
	Desired         json.RawMessage `json:"desired"`
	Method          string          `json:"method"`
	Payload         json.RawMessage `json:"payload"`
	ConnectTimeout  string          `json:"connectTimeout"`
	ResponseTimeout string          `json:"responseTimeout"`
}

// outcome is what the client made of the answer. Raw JSON is compared as text:
// the client must not rewrite it.
type outcome struct {
	Rows         []row  `json:"rows,omitempty"`
	Continuation string `json:"continuation,omitempty"`
	ETag         string `json:"etag,omitempty"`
	Version      int64  `json:"version,omitempty"`
	Tags         string `json:"tags,omitempty"`
	Desired      string `json:"desired,omitempty"`
	Reported     string `json:"reported,omitempty"`
	Status       int    `json:"status,omitempty"`
	Payload      string `json:"payload,omitempty"`
	Error        *fault `json:"error,omitempty"`
}

type row struct {
	Device  string `json:"device"`
	Module  string `json:"module,omitempty"`
	ETag    string `json:"etag,omitempty"`
	Tags    string `json:"tags,omitempty"`
	Desired string `json:"desired,omitempty"`
}

type fault struct {
	Kind       string `json:"kind"`
	Code       int    `json:"code,omitempty"`
	Name       string `json:"name,omitempty"`
	HTTPStatus int    `json:"httpStatus,omitempty"`
	TrackingID string `json:"trackingId,omitempty"`
	Message    string `json:"message,omitempty"`
	Wait       string `json:"wait,omitempty"`
}

func TestContract(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "contract", "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 30 {
		t.Fatalf("only %d contract files were found", len(files))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replay(t, file)
		})
	}
}

// replay holds the client to one file: its sections are call, request,
// response and want, as often as there are exchanges.
func replay(t *testing.T, file string) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	archive := txtar.Parse(src)
	checkProvenance(t, string(archive.Comment))
	if len(archive.Files) == 0 || len(archive.Files)%4 != 0 {
		t.Fatalf("%d sections, want call, request, response, want for each exchange", len(archive.Files))
	}
	server := newPlayback(t)
	client := contractClient(t, server)
	for i := 0; i < len(archive.Files); i += 4 {
		var part [4]string
		for n, name := range []string{"call", "request", "response", "want"} {
			if f := archive.Files[i+n]; f.Name != name {
				t.Fatalf("section %d is %q, want %q", i+n+1, f.Name, name)
			}
			part[n] = string(archive.Files[i+n].Data)
		}
		server.expect(part[2])
		got := perform(t, client, decode[call](t, part[0]))
		if diff := cmp.Diff([]string{strings.TrimSpace(part[1])}, trimmed(server.requests())); diff != "" {
			t.Errorf("exchange %d: requests (-want +got):\n%s", i/4+1, diff)
		}
		if diff := cmp.Diff(decode[outcome](t, part[3]), got); diff != "" {
			t.Errorf("exchange %d: outcome (-want +got):\n%s", i/4+1, diff)
		}
	}
}

func trimmed(texts []string) []string {
	for i := range texts {
		texts[i] = strings.TrimSpace(texts[i])
	}
	return texts
}

// checkProvenance wants a file to say where its exchange is known from.
func checkProvenance(t *testing.T, comment string) {
	t.Helper()
	for line := range strings.SplitSeq(comment, "\n") {
		if where, ok := strings.CutPrefix(line, "Provenance: "); ok && len(where) > 10 {
			return
		}
	}
	t.Error("the file has no line that starts with \"Provenance: \"")
}

func contractClient(t *testing.T, server *playback) hubtest.Hub {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(server.server.Certificate())
	client, err := hubclient.New(hubclient.Options{
		ConnectionString: server.connectionString(), RootCAs: roots, UserAgent: "contract",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func perform(t *testing.T, client hubtest.Hub, c call) outcome {
	t.Helper()
	var out outcome
	var err error
	target := hub.Target{DeviceID: c.Device, ModuleID: c.Module}
	switch c.Op {
	case "query":
		out, err = performQuery(t.Context(), client, c)
	case "twin":
		var twin hub.Twin
		twin, err = client.Twin(t.Context(), target)
		out = twinOutcome(twin)
	case "patch":
		var twin hub.Twin
		twin, err = client.PatchTwin(t.Context(), target, hub.Patch{Tags: c.Tags, Desired: c.Desired}, c.IfMatch)
		out = outcome{ETag: twin.ETag, Version: twin.Version}
	case "invoke":
		var answer hub.Answer
		answer, err = client.Invoke(t.Context(), target, hub.Call{
			Method: c.Method, Payload: c.Payload,
			ConnectTimeout: duration(t, c.ConnectTimeout), ResponseTimeout: duration(t, c.ResponseTimeout),
		})
		out = outcome{Status: answer.Status, Payload: string(answer.Payload)}
	default:
		t.Fatalf("op %q, want query, twin, patch or invoke", c.Op)
	}
	if err != nil {
		return outcome{Error: faultOf(t, err)}
	}
	return out
}

func performQuery(ctx context.Context, client hubtest.Hub, c call) (outcome, error) {
	page, err := client.Query(ctx, hub.Query{Text: c.Query, PageSize: c.PageSize, Continuation: c.Continuation})
	out := outcome{Continuation: page.Continuation}
	for _, r := range page.Rows {
		out.Rows = append(out.Rows, row{
			Device: r.DeviceID, Module: r.ModuleID, ETag: r.ETag, Tags: string(r.Tags), Desired: string(r.Desired),
		})
	}
	return out, err
}

func twinOutcome(twin hub.Twin) outcome {
	return outcome{
		ETag: twin.ETag, Version: twin.Version,
		Tags: string(twin.Tags), Desired: string(twin.Desired), Reported: string(twin.Reported),
	}
}

func faultOf(t *testing.T, err error) *fault {
	t.Helper()
	var e *hub.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is not a *hub.Error", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v", e, e), contractKey) || strings.Contains(e.Error(), "sig=") {
		t.Errorf("error %v shows a secret", e)
	}
	f := &fault{
		Kind: e.Kind.String(), Code: e.Code, Name: e.Name, HTTPStatus: e.StatusCode,
		TrackingID: e.TrackingID, Message: e.Message,
	}
	if e.Wait != 0 {
		f.Wait = e.Wait.String()
	}
	return f
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/internal/telemetry"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// told is a run that others are told of.
func told(t *testing.T, defaults string, change func(*runner.Options)) (spec.Report, int) {
	t.Helper()
	w := world{each: 60, group: "shares: {rejecting: 10%}"}
	r := newRun(t, w.start(t), planText(defaults))
	r.change = change
	rep, _ := r.apply(context.Background(), t)
	return rep, 3 * w.each
}

// The metrics file is what Prometheus reads, and says what the report says.
func TestMetricsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runner.prom")
	file := telemetry.NewFile(path, func(err error) { t.Error(err) })
	rep, _ := told(t, "concurrency: 8, rollout: {waves: [10%, 100%]}", func(o *runner.Options) { o.Observer = file })
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), "runner_run_running{plan=\"faults\"} 1\n") {
		t.Errorf("while the run goes on: %v\n%s", err, text)
	}
	file.End(&rep)
	if text, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(strings.NewReader(string(text))).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("Lint: %v, %v", problems, err)
	}
	for _, want := range []string{
		`runner_job_targets_ended{job="once",outcome="succeeded",plan="faults"} 54`,
		`runner_job_targets_ended{job="once",outcome="rejected",plan="faults"} 6`,
		`runner_job_targets{job="twin",plan="faults"} 60`, `runner_job_attempts_total{job="once",plan="faults"} 60`,
		`runner_job_wave{job="once",plan="faults"} 2`, `runner_run_running{plan="faults"} 0`, `runner_run_exit_code{plan="faults"} 0`,
	} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	failed := 0
	broken := telemetry.NewFile(filepath.Join(path, "no", "place"), func(error) { failed++ })
	told(t, "concurrency: 8", func(o *runner.Options) { o.Observer = broken })
	if broken.End(&rep); failed == 0 {
		t.Error("a file that cannot be written: nobody is told")
	}
}

// gathered is an OpenTelemetry collector that keeps what it gets.
type gathered struct {
	mu      sync.Mutex
	spans   []*trace.Span
	metrics int
}

// ServeHTTP takes an export.
func (g *gathered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && r.URL.Path == "/v1/traces" {
		var export collector.ExportTraceServiceRequest
		if err = proto.Unmarshal(body, &export); err == nil {
			for _, res := range export.GetResourceSpans() {
				for _, scope := range res.GetScopeSpans() {
					g.spans = append(g.spans, scope.GetSpans()...)
				}
			}
		}
	} else if r.URL.Path == "/v1/metrics" {
		g.metrics++
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
}

// parented notes which calls of devices carry a trace.
type parented struct {
	target.Hub

	mu      sync.Mutex
	parents map[string]bool
}

// Invoke notes the trace of a call.
func (p *parented) Invoke(ctx context.Context, to hub.Target, c hub.Call) (hub.Answer, error) {
	p.mu.Lock()
	p.parents[telemetry.TraceParent(ctx)] = true
	p.mu.Unlock()
	return p.Hub.Invoke(ctx, to, c)
}

// A trace has the run, below it the jobs, and below these the waves and some of the
// attempts; each call to the hub names its span.
func TestTraces(t *testing.T) {
	g := &gathered{}
	server := httptest.NewServer(g)
	defer server.Close()
	o, err := telemetry.NewOTLP(context.Background(), server.URL, "test")
	if err != nil {
		t.Fatal(err)
	}
	p := &parented{parents: map[string]bool{}}
	rep, all := told(t, "concurrency: 8, rollout: {waves: [10%, 100%]}", func(opts *runner.Options) {
		p.Hub = opts.Hubs[0].Hub
		opts.Hubs[0].Hub = o.Hub(p)
		opts.Observer, opts.Within = o, o.Within
	})
	if err = o.End(&rep); err != nil {
		t.Fatal(err)
	}
	names, ids := map[string]int{}, map[string]*trace.Span{}
	for _, s := range g.spans {
		names[strings.Fields(s.GetName())[0]]++
		ids[string(s.GetSpanId())] = s
	}
	if names["runner"] != 1 || names["job"] != 3 || names["wave"] != 6 || names["method"] == 0 || len(g.spans) > all/2 {
		t.Errorf("spans %v, %d in all", names, len(g.spans))
	}
	for _, s := range g.spans {
		above := "runner"
		switch parent := ids[string(s.GetParentSpanId())]; strings.Fields(s.GetName())[0] {
		case "runner":
			continue
		case "wave", "method", "update", "read":
			above = "job"
			fallthrough
		default:
			if parent == nil || !strings.HasPrefix(parent.GetName(), above) {
				t.Errorf("%s is below %v, want a %s", s.GetName(), parent.GetName(), above)
			}
		}
	}
	if p.parents[""] || len(p.parents) < 3 || g.metrics == 0 {
		t.Errorf("%d traces of calls, one empty: %t; %d exports of metrics", len(p.parents), p.parents[""], g.metrics)
	}
	gone, err := telemetry.NewOTLP(context.Background(), "http://127.0.0.1:1", "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.End(&rep); err == nil {
		t.Error("a collector that is not there: no error")
	}
}

// Each form of a notification tells of the start and of the end. One that fails, or
// hangs, is said and changes nothing.
func TestNotifications(t *testing.T) {
	var mu sync.Mutex
	var got []string
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = append(got, r.URL.Path+" "+string(body))
		mu.Unlock()
		switch {
		case strings.HasPrefix(r.URL.Path, "/broken"):
			w.WriteHeader(http.StatusTeapot)
		case strings.HasPrefix(r.URL.Path, "/hang"):
			<-hang
		}
	}))
	defer server.Close()
	defer close(hang)
	for _, tt := range []struct {
		address string
		want    []string // the beginnings of the requests
		fails   int
	}{
		{"slack=" + server.URL + "/hook", []string{`/hook {"text":"faults on hub`, `/hook {"text":"faults on hub`}, 0},
		{"healthchecks=" + server.URL + "/ping/abc", []string{"/ping/abc/start faults on hub", "/ping/abc/0 faults on hub"}, 0},
		{server.URL + "/json", []string{`/json {"event":"start",`, `/json {"event":"end",`}, 0},
		{server.URL + "/broken", []string{"/broken", "/broken"}, 2},
		{server.URL + "/hang", []string{"/hang", "/hang"}, 2},
	} {
		got = nil
		var failed []error
		n, err := telemetry.NewNotifier(tt.address, server.Client(), func(err error) { failed = append(failed, err) })
		if err != nil {
			t.Fatal(err)
		}
		rep, _ := told(t, "concurrency: 8", func(o *runner.Options) { o.Observer = n })
		n.End(&rep)
		mu.Lock()
		if len(got) != len(tt.want) || len(failed) != tt.fails {
			t.Errorf("%s: %q, and %v", tt.address, got, failed)
		}
		for i := range min(len(got), len(tt.want)) {
			if !strings.HasPrefix(got[i], tt.want[i]) {
				t.Errorf("%s: %q, want it to begin with %q", tt.address, got[i], tt.want[i])
			}
		}
		if strings.Contains(tt.address, "/json") {
			var end struct {
				ExitCode *int
				Summary  spec.Summary
			}
			if err := json.Unmarshal([]byte(strings.TrimPrefix(got[1], "/json ")), &end); err != nil || end.ExitCode == nil || end.Summary.Targets != rep.Summary.Targets {
				t.Errorf("the end: %+v, %v", end, err)
			}
		}
		mu.Unlock()
		if err := errors.Join(failed...); err != nil && (strings.Contains(err.Error(), "/hang") || strings.Contains(err.Error(), "/broken")) {
			t.Errorf("the address, which may be a secret, stands in %v", err)
		}
	}
	for _, bad := range []string{"", "hooks.slack.com/x", "ftp://host/x", "slack=", "http://"} {
		if _, err := telemetry.NewNotifier(bad, server.Client(), nil); err == nil {
			t.Errorf("NewNotifier(%q): no error", bad)
		}
	}
}

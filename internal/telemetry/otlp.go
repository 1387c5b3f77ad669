package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	api "go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// Sampling of attempts: the first ones of a run, and then one in so many. A span for
// each of a million calls would cost more than the calls.
const (
	firstAttempts = 20
	oneIn         = 100
)

// giveUp bounds what is sent at the end: a collector that is not there must not hold up
// whoever waits for the run.
const giveUp = 5 * time.Second

// OTLP sends traces and metrics of a run to a collector, by OpenTelemetry's protocol
// over HTTP. It is a [runner.Observer].
type OTLP struct {
	look

	traces  *sdk.TracerProvider
	meters  *metric.MeterProvider
	tracer  trace.Tracer
	calls   atomic.Int64
	spans   sync.Mutex
	root    context.Context //nolint:containedctx // the run's span, which the others are below
	jobs    map[string]context.Context
	waves   map[string]trace.Span // of each job, the one that goes on
	started trace.Span
}

// NewOTLP returns what sends to an endpoint, such as http://localhost:4318; empty for the
// one of OTEL_EXPORTER_OTLP_ENDPOINT, whose relatives count as well.
func NewOTLP(ctx context.Context, endpoint, version string) (*OTLP, error) {
	var to []otlptracehttp.Option
	var toMetrics []otlpmetrichttp.Option
	if endpoint != "" {
		to = append(to, otlptracehttp.WithEndpointURL(strings.TrimSuffix(endpoint, "/")+"/v1/traces"))
		toMetrics = append(toMetrics, otlpmetrichttp.WithEndpointURL(strings.TrimSuffix(endpoint, "/")+"/v1/metrics"))
	}
	spans, err := otlptracehttp.New(ctx, to...)
	if err != nil {
		return nil, fmt.Errorf("open OTLP traces: %w", err)
	}
	measured, err := otlpmetrichttp.New(ctx, toMetrics...)
	if err != nil {
		return nil, fmt.Errorf("open OTLP metrics: %w", err)
	}
	about, err := resource.Merge(resource.Default(), resource.NewSchemaless(attribute.String("service.name", "runner"), attribute.String("service.version", version)))
	if err != nil {
		return nil, fmt.Errorf("describe the service: %w", err)
	}
	o := &OTLP{
		traces: sdk.NewTracerProvider(sdk.WithBatcher(spans), sdk.WithResource(about)),
		meters: metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(measured, metric.WithInterval(fileInterval))), metric.WithResource(about)),
		jobs:   map[string]context.Context{}, waves: map[string]trace.Span{},
	}
	o.tracer = o.traces.Tracer("runner")
	o.root, o.started = o.tracer.Start(context.Background(), "runner apply")
	return o, o.measure()
}

// measure makes the figures known. They are asked for when they are sent.
func (o *OTLP) measure() error {
	meter := o.meters.Meter("runner")
	for _, m := range figures() {
		observe := func(_ context.Context, out api.Float64Observer) error {
			s := o.state()
			if s == nil {
				return nil
			}
			for _, p := range m.points(s) {
				attrs := []attribute.KeyValue{attribute.String("plan", s.info.Plan.Name)}
				for i, name := range m.labels {
					attrs = append(attrs, attribute.String(name, p.labels[i]))
				}
				out.Observe(p.value, api.WithAttributes(attrs...))
			}
			return nil
		}
		name := strings.ReplaceAll(strings.TrimSuffix(m.name, "_total"), "_", ".")
		var err error
		if m.counter {
			_, err = meter.Float64ObservableCounter(name, api.WithDescription(m.help), api.WithFloat64Callback(observe))
		} else {
			_, err = meter.Float64ObservableGauge(name, api.WithDescription(m.help), api.WithFloat64Callback(observe))
		}
		if err != nil {
			return fmt.Errorf("make the metric %s: %w", name, err)
		}
	}
	return nil
}

// RunStarted notes which run the trace is of.
func (o *OTLP) RunStarted(run *runner.Run) {
	o.look.RunStarted(run)
	info := run.Info()
	o.started.SetAttributes(attribute.String("runner.run", info.ID), attribute.String("runner.plan", info.Plan.Name), attribute.String("runner.hub", info.Hub))
}

// JobStarted begins the span of a job.
func (o *OTLP) JobStarted(name string) {
	o.spans.Lock()
	defer o.spans.Unlock()
	ctx, _ := o.tracer.Start(o.root, "job "+name, trace.WithAttributes(attribute.String("runner.job", name)))
	o.jobs[name] = ctx //nolint:fatcontext // each job has its own
}

// WaveStarted begins the span of a wave, and ends that of the one before.
func (o *OTLP) WaveStarted(job string, w runner.WaveStart) {
	o.spans.Lock()
	defer o.spans.Unlock()
	key := job + "\x00" + w.Hub
	if before := o.waves[key]; before != nil {
		before.End()
	}
	_, o.waves[key] = o.tracer.Start(o.within(job), fmt.Sprintf("wave %d of %d", w.Wave, w.Waves), trace.WithAttributes(
		attribute.Int("runner.wave", w.Wave), attribute.Int("runner.targets", w.Targets), attribute.String("runner.hub", w.Hub)))
}

// JobEnded ends the spans of a job.
func (o *OTLP) JobEnded(job spec.JobReport) {
	o.spans.Lock()
	defer o.spans.Unlock()
	for key, wave := range o.waves {
		if strings.HasPrefix(key, job.Name+"\x00") {
			wave.End()
			delete(o.waves, key)
		}
	}
	ctx := o.jobs[job.Name]
	if ctx == nil {
		return // it never began
	}
	span := trace.SpanFromContext(ctx)
	for _, out := range spec.Outcomes() {
		if n := job.Outcomes[out]; n > 0 {
			span.SetAttributes(attribute.Int("runner.outcome."+string(out), n))
		}
	}
	if job.Status != spec.StatusSucceeded {
		span.SetStatus(codes.Error, string(job.Status)+": "+job.Reason)
	}
	span.End()
}

func (o *OTLP) within(job string) context.Context {
	if ctx := o.jobs[job]; ctx != nil {
		return ctx
	}
	return o.root
}

// Within returns a context for the calls of a job: their spans are below the job's.
func (o *OTLP) Within(ctx context.Context, job string) context.Context {
	o.spans.Lock()
	defer o.spans.Unlock()
	return trace.ContextWithSpan(ctx, trace.SpanFromContext(o.within(job)))
}

// End sends what is still to be sent, for a few seconds at most.
func (o *OTLP) End(rep *spec.Report) error {
	o.mu.Lock()
	o.rep = rep
	o.mu.Unlock()
	o.started.SetAttributes(attribute.Int("runner.exitCode", rep.Run.ExitCode), attribute.Int("runner.targets", rep.Summary.Targets))
	if rep.Run.Status != spec.StatusSucceeded {
		o.started.SetStatus(codes.Error, string(rep.Run.Status))
	}
	return o.Close()
}

// Close ends the trace.
func (o *OTLP) Close() error {
	o.started.End()
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	return errors.Join(o.meters.Shutdown(ctx), o.traces.Shutdown(ctx))
}

// TraceParent is the header by which the hub's side can find the call in the trace, as
// the W3C has it; empty where there is no trace.
func TraceParent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// Hub returns a hub whose calls to devices and twins have spans, of which some are
// taken.
func (o *OTLP) Hub(h target.Hub) target.Hub { return &tracedHub{Hub: h, o: o} }

type tracedHub struct {
	target.Hub

	o *OTLP
}

// Invoke calls a method.
func (t *tracedHub) Invoke(ctx context.Context, to hub.Target, c hub.Call) (a hub.Answer, err error) {
	t.o.attempt(ctx, "method "+c.Method, to, func(ctx context.Context) error {
		a, err = t.Hub.Invoke(ctx, to, c)
		return err
	})
	return a, err
}

// PatchTwin patches a twin.
func (t *tracedHub) PatchTwin(ctx context.Context, to hub.Target, p hub.Patch, ifMatch string) (twin hub.Twin, err error) {
	t.o.attempt(ctx, "update twin", to, func(ctx context.Context) error {
		twin, err = t.Hub.PatchTwin(ctx, to, p, ifMatch)
		return err
	})
	return twin, err
}

// Twin reads a twin.
func (t *tracedHub) Twin(ctx context.Context, to hub.Target) (twin hub.Twin, err error) {
	t.o.attempt(ctx, "read twin", to, func(ctx context.Context) error {
		twin, err = t.Hub.Twin(ctx, to)
		return err
	})
	return twin, err
}

// attempt makes a call, in a span of its own if it is one that is taken.
func (o *OTLP) attempt(ctx context.Context, name string, to hub.Target, call func(context.Context) error) {
	if n := o.calls.Add(1); n > firstAttempts && n%oneIn != 0 {
		_ = call(ctx) // the caller has the error
		return
	}
	ctx, span := o.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("runner.device", to.String())))
	defer span.End()
	if err := call(ctx); err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
}

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"

	"github.com/spf13/pflag"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/telemetry"
	"iothub-runner/internal/terminal"
	"iothub-runner/spec"
)

// notifyVar has an address to notify that is not to stand on a command line.
const notifyVar = "RUNNER_NOTIFY"

// otlpFromEnv is the value of --otlp without an endpoint.
const otlpFromEnv = "from the environment"

// tellFlags say which other systems are told how a run goes.
type tellFlags struct {
	metricsFile string
	otlp        string
	notify      []string
}

func (f *tellFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.metricsFile, "metrics-file", "", "keep figures of the run in `FILE`, for the textfile collector of Prometheus' node exporter")
	flags.StringVar(&f.otlp, "otlp", "", "send traces and metrics to the OpenTelemetry collector at `URL` (default: OTEL_EXPORTER_OTLP_ENDPOINT)")
	flags.Lookup("otlp").NoOptDefVal = otlpFromEnv
	flags.StringArrayVar(&f.notify, "notify", nil, "tell `[FORM=]URL` of the start and the end; FORM is json, slack or healthchecks, by default what the host says (may be repeated; "+notifyVar+" adds one)")
}

// watch adds those who tell others to who looks on. What they cannot do is said once,
// and never ends the run.
func (f *tellFlags) watch(ctx context.Context, w *watchers, apply *applyFlags, env environment, talk *terminal.Talk, hubs *openedHubs) error {
	failed := func(err error) { talk.Log.Warn(err.Error()) }
	if f.metricsFile != "" {
		file := telemetry.NewFile(f.metricsFile, failed)
		w.observers, w.ends = append(w.observers, file), append(w.ends, file.End)
	}
	if err := f.watchOTLP(ctx, w, hubs, failed); err != nil {
		return err
	}
	addresses := f.notify
	if a := env.getenv(notifyVar); a != "" {
		addresses = append(addresses, a)
	}
	if len(addresses) == 0 {
		return nil
	}
	client, err := apply.webClient(env)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		n, err := telemetry.NewNotifier(a, client, failed)
		if err != nil {
			return exit.Usage("--notify: "+err.Error(), "write it as https://hooks.slack.com/..., or with its form: slack=https://chat.example/hook")
		}
		w.observers, w.ends = append(w.observers, n), append(w.ends, n.End)
	}
	return nil
}

func (f *tellFlags) watchOTLP(ctx context.Context, w *watchers, hubs *openedHubs, failed func(error)) error {
	if f.otlp == "" {
		return nil
	}
	endpoint := f.otlp
	if endpoint == otlpFromEnv {
		endpoint = ""
	}
	o, err := telemetry.NewOTLP(ctx, endpoint, version)
	if err != nil {
		return exit.Usage(fmt.Sprintf("--otlp %q: %v", f.otlp, err), "write it as http://localhost:4318")
	}
	for i := range hubs.named {
		hubs.named[i].Hub = o.Hub(hubs.named[i].Hub)
	}
	w.otlp, w.observers = o, append(w.observers, o)
	w.ends = append(w.ends, func(rep *spec.Report) {
		if err := o.End(rep); err != nil {
			failed(fmt.Errorf("OTLP: %w", err))
		}
	})
	return nil
}

// webClient makes requests as those to the hub are made: by the same proxy, with trust
// in the same authorities.
func (c connection) webClient(env environment) (*http.Client, error) {
	roots, proxy, err := c.way(env)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{Proxy: proxy, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}, nil
}

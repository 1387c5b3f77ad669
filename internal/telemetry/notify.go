package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"iothub-runner/internal/render"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// Notifier tells an address of the start and the end of a run. It is a
// [runner.Observer].
type Notifier struct {
	form   string
	to     *url.URL
	client *http.Client
	failed func(error)
	info   spec.Run
	begun  sync.WaitGroup
}

// The forms of a notification.
const (
	formJSON         = "json"
	formSlack        = "slack"
	formHealthchecks = "healthchecks"
)

// NewNotifier reads an address, which may have a form before it: slack=, healthchecks=
// or json=. Without one the host says which; the address itself is a secret.
func NewNotifier(address string, client *http.Client, failed func(error)) (*Notifier, error) {
	n := &Notifier{form: formJSON, client: client, failed: failed}
	named := false
	for _, form := range []string{formJSON, formSlack, formHealthchecks} {
		if rest, ok := strings.CutPrefix(address, form+"="); ok {
			address, n.form, named = rest, form, true
		}
	}
	to, err := url.Parse(address)
	if err != nil || to.Host == "" || to.Scheme != "http" && to.Scheme != "https" {
		return nil, fmt.Errorf("it is no address of a web server (not shown, it may be a secret)") //nolint:perfsprint // like the others
	}
	n.to = to
	switch host := to.Hostname(); {
	case named:
	case host == "hooks.slack.com":
		n.form = formSlack
	case host == "hc-ping.com" || strings.HasPrefix(host, "hc."):
		n.form = formHealthchecks
	}
	return n, nil
}

// message is what others are told.
type message struct {
	Event    string        `json:"event"` // start or end
	Run      string        `json:"run"`
	Plan     string        `json:"plan"`
	Hub      string        `json:"hub"`
	Text     string        `json:"text"`
	Status   spec.Status   `json:"status,omitempty"`
	ExitCode *int          `json:"exitCode,omitempty"`
	Summary  *spec.Summary `json:"summary,omitempty"`
}

// RunStarted tells of the start. The run does not wait for that.
func (n *Notifier) RunStarted(run *runner.Run) {
	n.info = run.Info()
	m := message{Event: "start", Run: n.info.ID, Plan: n.info.Plan.Name, Hub: n.info.Hub, Text: fmt.Sprintf("%s on hub %s: started", n.info.Plan.Name, n.info.Hub)}
	n.begun.Go(func() { n.send(&m) })
}

// JobStarted does nothing.
func (n *Notifier) JobStarted(string) {}

// WaveStarted does nothing.
func (n *Notifier) WaveStarted(string, runner.WaveStart) {}

// JobEnded does nothing.
func (n *Notifier) JobEnded(spec.JobReport) {}

// End tells of the end. It takes a few seconds at most.
func (n *Notifier) End(rep *spec.Report) {
	n.begun.Wait()
	m := message{
		Event: "end", Run: rep.Run.ID, Plan: rep.Run.Plan.Name, Hub: rep.Run.Hub, Status: rep.Run.Status, ExitCode: &rep.Run.ExitCode, Summary: &rep.Summary,
		Text: fmt.Sprintf("%s on hub %s: %s", rep.Run.Plan.Name, rep.Run.Hub, render.Verdict(rep)),
	}
	n.send(&m)
}

func (n *Notifier) send(m *message) {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp/2) // the start may still be on its way
	defer cancel()
	to, kind := *n.to, "application/json"
	var body []byte
	var err error
	switch n.form {
	case formSlack:
		body, err = json.Marshal(map[string]string{"text": m.Text})
	case formHealthchecks:
		kind, body = "text/plain; charset=utf-8", []byte(m.Text)
		if to.Path = strings.TrimSuffix(to.Path, "/") + "/start"; m.ExitCode != nil {
			to.Path = strings.TrimSuffix(to.Path, "/start") + "/" + strconv.Itoa(*m.ExitCode)
		}
	default:
		body, err = json.Marshal(m)
	}
	if err == nil {
		err = n.post(ctx, to.String(), kind, body)
	}
	if err != nil {
		n.failed(fmt.Errorf("notify %s of the %s: %w", n.to.Host, m.Event, err))
	}
}

func (n *Notifier) post(ctx context.Context, to, kind string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return hidden(err)
	}
	req.Header.Set("Content-Type", kind)
	res, err := n.client.Do(req)
	if err != nil {
		return hidden(err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16)) // so that the connection ends well
	_ = res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("it answered %s", res.Status)
	}
	return nil
}

// hidden is an error without the address, whose path is often a secret.
func hidden(err error) error {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // it is what package http returns
		return e.Err
	}
	return err
}

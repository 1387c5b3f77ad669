package runner_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"iothub-runner/internal/journal"
	"iothub-runner/runner"
)

// BenchmarkPast reads the journal of a run over a million devices, with waves and
// confirm, as a resume does: three lines a device. The bound is 3 s on two cores.
func BenchmarkPast(b *testing.B) {
	path := filepath.Join(b.TempDir(), "run.ndjson")
	writeProofs(b, path, 1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		past := runner.NewPast()
		w, err := journal.Open(path, journal.Off, past.Visit)
		if err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// writeProofs writes the journal of a job whose devices have all reported.
func writeProofs(b *testing.B, path string, devices int) {
	b.Helper()
	at := time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)
	w, err := journal.Create(path, journal.Header{Run: "20261201T010000Z-340e7e", Plan: "proof", Hubs: []string{"hub"}, StartedAt: at}, journal.Off)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	var line []byte
	add := func(rec journal.Record) {
		line = rec.Append(line[:0])
		if _, err := w.Append(line); err != nil {
			b.Fatal(err)
		}
	}
	const patch = `{"desired":{"interval":30}}`
	row := func(device, outcome, ended, rest string) json.RawMessage {
		return fmt.Appendf(nil, `{"deviceId":%q,"outcome":%q,"startedAt":"2026-12-01T01:20:01.290Z","endedAt":%s,"attempts":1,"confirm":{"acceptedAt":"2026-12-01T01:20:01.301Z","by":"2026-12-01T01:30:01.301Z","since":"2026-12-01T01:20:01.29906Z","version":1,"desiredVersion":2},"twin":{"before":{"desired":{"interval":null}},"patch":`+patch+`,"version":3,"etag":"AAAAAAAAAAI="}%s}`, device, outcome, ended, rest)
	}
	for first := 0; first < devices; first += 100 {
		page := journal.Targets{Job: "set"}
		for i := range 100 {
			page.Targets = append(page.Targets, journal.Target{Device: fmt.Sprintf("door-%07d", first+i)})
		}
		add(page)
	}
	add(journal.Mark{Job: "set", Event: journal.EventListed, At: at})
	for i := range devices {
		t := journal.Target{Device: fmt.Sprintf("door-%07d", i*7919%devices)}
		add(journal.Intent{Job: "set", Target: t, Attempt: 1, At: at, ETag: "AAAAAAAAAAE=", Before: json.RawMessage(`{"desired":{"interval":null}}`), Patch: json.RawMessage(patch)})
		add(journal.Result{Job: "set", Target: t, Row: row(t.Device, "unconfirmed", `"2026-12-01T01:20:01.301Z"`, `,"error":{"kind":"unconfirmed","message":"the job ended while it waited for the device to report the change"}`)})
		add(journal.Result{Job: "set", Target: t, Row: row(t.Device, "succeeded", `"2026-12-01T01:20:02.137Z","confirmedAt":"2026-12-01T01:20:01.501Z"`, "")})
	}
	if info, err := os.Stat(path); err == nil {
		b.ReportMetric(float64(info.Size())/1e6, "MB")
	}
}

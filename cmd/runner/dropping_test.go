package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"iothub-runner/internal/exit"
)

// A stderr that nobody reads holds up neither the run nor its report, and what
// was lost is counted.
func TestUnreadTalkHoldsNothingUp(t *testing.T) {
	dir := t.TempDir()
	plan := filepath.Join(dir, "plan.yaml")
	fleet := filepath.Join(dir, "fleet.yaml")
	for name, text := range map[string]string{
		plan:  "version: 1\nname: p\njobs:\n  - name: j\n    type: directMethod\n    target: tags.site = 'oslo'\n    method: lockDoor\n",
		fleet: "version: 1\ndevices:\n  - {idPattern: door-%04d, count: 5000, tags: {site: oslo}, methods: {lockDoor: {}}}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			r, w, err := os.Pipe() // takes 64 KiB until somebody reads
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			var report bytes.Buffer
			code := run([]string{"apply", "--emulator=" + fleet, "-v", "--log-format", format, "--journal", filepath.Join(dir, format), plan}, environment{
				getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: &report, stderr: w,
			})
			if code != exit.OK {
				t.Fatalf("exit code %d", code)
			}
			var doc struct {
				Summary struct{ Outcomes map[string]int }
			}
			if err := json.Unmarshal(report.Bytes(), &doc); err != nil || doc.Summary.Outcomes["succeeded"] != 5000 {
				t.Errorf("outcomes %v, %v", doc.Summary.Outcomes, err)
			}
			said := readSome(t, r)
			if !strings.Contains(said, "lines dropped here: nobody read stderr") || !strings.Contains(said, "succeeded in") {
				t.Errorf("said at the end: %.300s; want how much was lost, and the last line", said)
			}
			if format == "json" && strings.Contains(said, "\nrunner:") {
				t.Error("a line is no JSON")
			}
		})
	}
}

// readSome reads what still comes until the last line of a run.
func readSome(t *testing.T, r io.Reader) string {
	t.Helper()
	var said bytes.Buffer
	for buf := make([]byte, 64<<10); !strings.Contains(said.String(), "5000 targets"); {
		n, err := r.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
	}
	return said.String()
}

package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestSystemd reads the units of examples/cron: runner has the flags that they give it,
// and they have what keeps a service with a key from doing more than it must.
func TestSystemd(t *testing.T) {
	text, err := os.ReadFile("../../examples/cron/runner@.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			settings[key] = value
		}
	}
	words := strings.Fields(settings["ExecStart"])
	apply, _, err := newRoot(environment{}).Find([]string{"apply"})
	if err != nil || len(words) < 3 || words[1] != "apply" {
		t.Fatalf("ExecStart=%q, %v", settings["ExecStart"], err)
	}
	if err = apply.ParseFlags(words[2:]); err != nil || len(apply.Flags().Args()) != 1 {
		t.Errorf("ExecStart=%q: %v", settings["ExecStart"], err)
	}
	for key, want := range map[string]string{
		"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
		"CapabilityBoundingSet": "", "LoadCredential": "connection-string:/etc/runner/connection-string", "StateDirectory": "runner",
	} {
		if have, ok := settings[key]; !ok || have != want {
			t.Errorf("%s=%q, want %q", key, have, want)
		}
	}
	if regexp.MustCompile(`SharedAccessKey|Environment`).Match(text) {
		t.Error("a key, or a place for one, stands in the unit")
	}
	timer, err := os.ReadFile("../../examples/cron/runner@.timer")
	if err != nil || !strings.Contains(string(timer), "\nOnCalendar=") || !strings.Contains(string(timer), "\nPersistent=true") {
		t.Errorf("the timer: %v\n%s", err, timer)
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/hubtest/wire"
)

// emulated starts a hub on which an assumption can be checked and that behaves
// as chosen, and says how to reach it.
func emulated(t *testing.T, a Assumption, behaviour map[string]string) setup {
	t.Helper()
	s, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", Tier: a.Tier, Behaviour: behaviour})
	if err != nil {
		t.Fatalf("emulator.Start: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if a.Faults != "" {
		if err := s.ReplaceFaults("faults", []byte(a.Faults)); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CAPEM())
	reach := func(policy string) *wire.Hub {
		cs, _ := s.PolicyConnectionString(policy)
		hub, err := wire.Parse(cs)
		if err != nil {
			t.Fatal(err)
		}
		hub.MQTTAddr, hub.TLS = s.MQTTAddr(), &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
		t.Cleanup(hub.Close)
		return hub
	}
	return setup{hub: reach("iothubowner"), serviceOnly: reach("service"), patience: time.Minute, pass: func(ctx context.Context, d time.Duration) error {
		if err := s.Advance(d); err != nil {
			return err
		}
		return sleep(ctx, time.Millisecond) // lets what fell due happen
	}}
}

// TestOnTheEmulator checks every assumption on a hub that does as it says,
// and, where there is a switch, on hubs that do otherwise: a check that cannot
// tell them apart would be worth nothing.
func TestOnTheEmulator(t *testing.T) {
	for _, a := range assumptions() {
		if a.Switch == "" {
			t.Run(a.ID, func(t *testing.T) {
				t.Parallel()
				wantSeen(t, check(t.Context(), emulated(t, a, nil), a), a.Expect)
			})
			continue
		}
		for value, want := range a.Values {
			t.Run(a.ID+"/"+value, func(t *testing.T) {
				t.Parallel()
				wantSeen(t, check(t.Context(), emulated(t, a, map[string]string{a.Switch: value}), a), want)
			})
		}
	}
}

func wantSeen(t *testing.T, f Finding, want string) {
	t.Helper()
	if f.Err != nil || f.Seen != want {
		t.Errorf("seen %q (error %v), want %q\n%s", f.Seen, f.Err, want, f)
	}
}

// TestChecksLeaveNothingBehind runs all checks against one hub and looks for
// what they left there.
func TestChecksLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	s := emulated(t, Assumption{}, nil)
	var out bytes.Buffer
	if code := (&results{}).checkAll(t.Context(), s, assumptions(), false, &out); code != exitAllHold {
		t.Errorf("checkAll = %d:\n%s", code, &out)
	}
	p := newProbe(t.Context(), s)
	if rows := p.query("SELECT deviceId FROM devices").Rows(); len(rows) != 0 {
		t.Errorf("devices that were left: %v", rows)
	}
	for _, j := range p.must("GET", "/jobs/v2/query?jobStatus=scheduled", "").Rows() {
		t.Errorf("a job that was left: %v", j)
	}
	if p.err != nil {
		t.Error(p.err)
	}
}

// TestEverySwitchIsAnAssumption holds the two lists together: what has a
// switch is not known, so somebody must be able to find out.
func TestEverySwitchIsAnAssumption(t *testing.T) {
	byswitch := map[string]Assumption{}
	ids := map[string]bool{}
	for _, a := range assumptions() {
		if ids[a.ID] || !regexp.MustCompile(`^A\d{3}$`).MatchString(a.ID) || a.Says == "" || a.Source == "" || a.Expect == "" {
			t.Errorf("assumption %q is not complete, or there are two", a.ID)
		}
		ids[a.ID] = true
		if a.Switch != "" {
			byswitch[a.Switch] = a
		}
	}
	// These say what the emulator can do, or what goes wrong with jobs, and nothing of
	// what a hub always does.
	exempt := []string{"bearer", "jobLag", "jobShapes", "jobBreaks"}
	for _, b := range core.Behaviours() {
		a, ok := byswitch[b.Name]
		if slices.Contains(exempt, b.Name) {
			continue
		}
		if !ok {
			t.Errorf("no assumption asks what switch %q should be", b.Name)
			continue
		}
		delete(byswitch, b.Name)
		for _, value := range b.Values {
			if a.Values[value] == "" {
				t.Errorf("%s does not say what is seen when %s=%s", a.ID, b.Name, value)
			}
		}
		if a.Values[b.Values[0]] != a.Expect {
			t.Errorf("%s expects %q, but the emulator's default %s=%s shows %q", a.ID, a.Expect, b.Name, b.Values[0], a.Values[b.Values[0]])
		}
	}
	for name := range byswitch {
		t.Errorf("the emulator has no switch %q", name)
	}
	if !slices.IsSortedFunc(assumptions(), func(a, b Assumption) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("the assumptions are not in order")
	}
}

// TestTable keeps docs/assumptions.md in step.
func TestTable(t *testing.T) {
	have, err := os.ReadFile("../../../docs/assumptions.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := table(assumptions()); string(have) != want {
		t.Errorf("docs/assumptions.md is not what -table writes; run\n\tgo run ./internal/hubtest/assumptions -table >docs/assumptions.md")
	}
}

func TestFinding(t *testing.T) {
	a := Assumption{ID: "A001", Says: "So it is", Expect: "yes", Switch: "truth", Values: map[string]string{"on": "yes", "off": "no"}}
	tests := []struct {
		f     Finding
		part  string
		holds bool
	}{
		{Finding{Assumption: a, Seen: "yes"}, "A001 holds: So it is", true},
		{Finding{Assumption: a, Seen: "no"}, "seen: no, expected: yes; the emulator does so with --behaviour truth=off", false},
		{Finding{Assumption: a, Seen: "maybe"}, "A001 DOES NOT HOLD", false},
		{Finding{Assumption: a, Seen: "yes", Err: context.Canceled}, "A001 not checked: context canceled", false},
	}
	for _, tt := range tests {
		if !strings.Contains(tt.f.String(), tt.part) || tt.f.Holds() != tt.holds {
			t.Errorf("finding %q, holds %t; want %q, %t", tt.f, tt.f.Holds(), tt.part, tt.holds)
		}
	}
}

// TestReport: what does not hold comes first, and the hub's name not at all.
func TestReport(t *testing.T) {
	a := Assumption{ID: "A001", Says: "So it is", Expect: "yes", Switch: "truth", Values: map[string]string{"on": "yes", "off": "no|x"}}
	r := &results{hub: "contoso.azure-devices.net", at: time.Unix(0, 0), skipped: []Assumption{{ID: "A009", Says: "It breaks", Disturbs: "breaks it"}}, found: []Finding{
		{Assumption: a, Seen: "yes"}, {Assumption: a, Err: errors.New("no connection to contoso.azure-devices.net")}, {Assumption: a, Seen: "no|x"},
	}}
	want := "# Assumptions, checked on 1970-01-01\n\n1 hold, 1 do not hold, 1 could not be checked, 1 were left out.\n" +
		"\n## What does not hold\n\n| Id | Statement | Seen | Expected |\n|---|---|---|---|\n" +
		"| A001 | So it is | `no\\|x` | `yes`; the emulator does so with --behaviour truth=off |\n" +
		"\n## What could not be checked\n\n| Id | Statement | Why |\n|---|---|---|\n| A001 | So it is | `no connection to HUB` |\n" +
		"\n## What holds\n\n| Id | Statement | Seen |\n|---|---|---|\n| A001 | So it is | `yes` |\n" +
		"\n## What was left out\n\n- A009: It breaks (breaks it)\n"
	if got := r.String(); got != want {
		t.Errorf("report\n%s\nwant\n%s", got, want)
	}
}

func TestCommandLine(t *testing.T) {
	secret := "c2VjcmV0a2V5"
	tests := []struct {
		name string
		args []string
		env  map[string]string
		code int
		part string
	}{
		{"list", []string{"-list", "-run", "A00[12]"}, nil, exitAllHold, "A002 The ETag header"},
		{"table", []string{"-table"}, nil, exitAllHold, "| A001 |"},
		{"no hub", nil, nil, exitUsage, "set IOTHUB_SERVICE_CONNECTION_STRING"},
		{"no connection string", nil, map[string]string{connectionVar: "HostName=h;SharedAccessKey=" + secret}, exitUsage, "want HostName, SharedAccessKeyName"},
		{"no pattern", []string{"-run", "("}, nil, exitUsage, "want a regular expression"},
		{"an argument", []string{"A001"}, nil, exitUsage, "no arguments"},
		{"a hub that is not there", []string{"-run", "A001"}, map[string]string{connectionVar: "HostName=localhost:1;SharedAccessKeyName=p;SharedAccessKey=" + secret}, exitSomeDoNot, "A001 not checked"},
		{"what disturbs", []string{"-run", "A039"}, map[string]string{connectionVar: "HostName=localhost:1;SharedAccessKeyName=p;SharedAccessKey=" + secret}, exitSomeDoNot, "-disturb does it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			code := run(t.Context(), tt.args, func(name string) string { return tt.env[name] }, &out, &out)
			if code != tt.code || !strings.Contains(out.String(), tt.part) {
				t.Errorf("run(%q) = %d:\n%s\nwant %d and %q", tt.args, code, &out, tt.code, tt.part)
			}
			if strings.Contains(out.String(), secret) {
				t.Errorf("the key is shown:\n%s", &out)
			}
		})
	}
}

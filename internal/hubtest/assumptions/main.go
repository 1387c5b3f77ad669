// Command assumptions tries on a real hub what the emulator and the client
// take for granted about it.
//
//	go run ./internal/hubtest/assumptions -connection-string-file hub.txt -out report.md
//
// It touches nothing but devices and jobs that it creates, under ids that begin
// with assume- and a random number, and cleans up. docs/assumptions.md lists
// the statements.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

// The exit codes.
const (
	exitAllHold = iota
	exitSomeDoNot
	exitUsage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The environment variables that are read.
const (
	connectionVar  = "IOTHUB_SERVICE_CONNECTION_STRING"
	serviceOnlyVar = "IOTHUB_SERVICECONNECT_CONNECTION_STRING"
)

// flags are what a user chooses.
type flags struct {
	pattern string
	list    bool
	table   bool
	disturb bool
	mqtt    string
	file    string
	out     string
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	var f flags
	set := flag.NewFlagSet("assumptions", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.pattern, "run", "", "check the assumptions whose id matches this `PATTERN` only")
	set.BoolVar(&f.list, "list", false, "list the assumptions and check none")
	set.BoolVar(&f.table, "table", false, "write docs/assumptions.md to stdout")
	set.BoolVar(&f.disturb, "disturb", false, "make checks that disturb others who use the hub")
	set.StringVar(&f.mqtt, "mqtt", "", "connect devices to `HOST:PORT` (default: port 8883 of the hub)")
	set.StringVar(&f.file, "connection-string-file", "", "read the connection string from `FILE` (default: "+connectionVar+")")
	set.StringVar(&f.out, "out", "", "write what was found to `FILE`, as Markdown for an issue")
	if err := set.Parse(args); err != nil {
		return exitUsage
	}
	pattern, err := regexp.Compile("^(?:" + f.pattern + ")")
	if err != nil || set.NArg() > 0 {
		fmt.Fprintf(stderr, "assumptions: -run %q: want a regular expression such as A007 or A0[12], and no arguments\n", f.pattern)
		return exitUsage
	}
	chosen := choose(pattern)
	switch {
	case f.table:
		fmt.Fprint(stdout, table(assumptions()))
		return exitAllHold
	case f.list:
		for _, a := range chosen {
			fmt.Fprintf(stdout, "%s %s\n", a.ID, a.Says)
		}
		return exitAllHold
	}
	s, err := connectTo(getenv, f)
	if err != nil {
		fmt.Fprintf(stderr, "assumptions: %v\n", err)
		return exitUsage
	}
	r := &results{hub: s.hub.Name(), at: time.Now()}
	code := r.checkAll(ctx, s, chosen, f.disturb, stdout)
	if f.out == "" {
		return code
	}
	if err := os.WriteFile(f.out, []byte(r.String()), 0o600); err != nil {
		fmt.Fprintf(stderr, "assumptions: %v\n", err)
		return exitUsage
	}
	return code
}

func choose(pattern *regexp.Regexp) []Assumption {
	var chosen []Assumption
	for _, a := range assumptions() {
		if pattern.MatchString(a.ID) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}

// connectTo finds out which hub to use.
func connectTo(getenv func(string) string, f flags) (setup, error) {
	text, from := getenv(connectionVar), connectionVar
	if f.file != "" {
		content, err := os.ReadFile(f.file)
		if err != nil {
			return setup{}, err
		}
		text, _, _ = strings.Cut(string(content), "\n")
		text, from = strings.TrimSpace(text), f.file
	}
	if text == "" {
		return setup{}, fmt.Errorf("set %s to the connection string of a policy that may do everything, on a hub for tests, or give it by -connection-string-file", connectionVar)
	}
	hub, err := wire.Parse(text)
	if err != nil {
		return setup{}, fmt.Errorf("%s: %w", from, err)
	}
	if f.mqtt != "" {
		hub.MQTTAddr = f.mqtt
	}
	s := setup{hub: hub, pass: sleep}
	if text := getenv(serviceOnlyVar); text != "" {
		if s.serviceOnly, err = wire.Parse(text); err != nil {
			return setup{}, fmt.Errorf("%s: %w", serviceOnlyVar, err)
		}
	}
	return s, nil
}

// sleep waits on the real clock.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkAll checks one after the other, for hubs that run one job at a time.
func (r *results) checkAll(ctx context.Context, s setup, chosen []Assumption, disturb bool, stdout io.Writer) int {
	for _, a := range chosen {
		if a.Disturbs != "" && !disturb {
			fmt.Fprintf(stdout, "%s not checked: %s; -disturb does it\n", a.ID, a.Disturbs)
			r.skipped = append(r.skipped, a)
			continue
		}
		found := check(ctx, s, a)
		r.found = append(r.found, found)
		fmt.Fprintln(stdout, found)
		if ctx.Err() != nil {
			break
		}
	}
	held, wrong, failed := r.sorted()
	other := len(wrong) + len(failed)
	fmt.Fprintf(stdout, "%d hold, %d do not or could not be checked\n", len(held), other)
	if other > 0 || len(held) == 0 {
		return exitSomeDoNot
	}
	return exitAllHold
}

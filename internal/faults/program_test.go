package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"iothub-runner/internal/emulator"
)

// built is the program under test, which is built once, when a test first needs
// it. Under the race detector it has one of its own. TestMain removes its folder.
var built = sync.OnceValues(func() (string, error) {
	if err := os.MkdirAll(buildDir(), 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(buildDir(), "runner")
	args := []string{"build", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	cmd := exec.Command("go", append(args, "iothub-runner/cmd/runner")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// buildDir belongs to this process alone.
func buildDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("runner-faults-%d", os.Getpid()))
}

// process is a run of the program that is killed and resumed.
type process struct {
	hub     *emulator.Server
	program string
	dir     string
	more    []string // arguments
	file    string   // what to apply, in dir
	kills   int
	reports int  // how often it was interrupted and left a report
	ended   bool // by itself
	code    int
	stderr  string
	took    []time.Duration // of each start of the program
}

func newProcess(tb testing.TB, hub *emulator.Server, plan string, more ...string) *process {
	tb.Helper()
	program, err := built()
	if err != nil {
		tb.Fatal(err)
	}
	p := &process{hub: hub, program: program, dir: tb.TempDir(), more: more, file: "plan.yaml"}
	for name, text := range map[string]string{"plan.yaml": plan, "ca.pem": string(hub.CAPEM()), "hub.txt": hub.ConnectionString()} {
		if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return p
}

func (p *process) path(name string) string { return filepath.Join(p.dir, name) }

// command starts the run, or goes on with its journal if there is one.
func (p *process) command(ctx context.Context) *exec.Cmd {
	args := []string{
		"apply", "--quiet", "--ca-file", p.path("ca.pem"), "--connection-string-file", p.path("hub.txt"),
		"--report", p.path("report.json"),
	}
	record := "--resume"
	if _, err := os.Stat(p.path("journal.ndjson")); errors.Is(err, fs.ErrNotExist) {
		record = "--journal"
	}
	if p.reports > 0 { // the report says which run it is, the journal has it
		args = append(args, "--resume", p.path("last.json"))
		record = "--journal"
	}
	args = append(append(args, record, p.path("journal.ndjson")), p.more...)
	cmd := exec.CommandContext(ctx, p.program, append(args, p.path(p.file))...)
	// The race detector keeps a program alive for a second after its end, for
	// threads that are still at work: it has none then.
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+p.dir, "HOME="+p.dir, "GORACE=atexit_sleep_ms=10 "+os.Getenv("GORACE"))
	return cmd
}

// instant is when to kill: so long after the devices have acted so often.
type instant struct {
	acts  int
	after time.Duration
}

// lookEvery is how often an instant looks for the acts of devices.
const lookEvery = time.Millisecond

// until returns at the instant, or when over is closed.
func (p *process) until(at instant, over <-chan struct{}) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for acts(p.hub) < at.acts {
		select {
		case <-look.C:
		case <-over:
			return
		}
	}
	timer := time.NewTimer(at.after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-over:
	}
}

// acts is what all devices did so far.
func acts(hub *emulator.Server) (n int) {
	for _, e := range hub.EachExecuted {
		n += e.Methods + e.Patches
	}
	return n
}

// killAt starts the program and kills it at the instant, unless it ends before.
func (p *process) killAt(ctx context.Context, tb testing.TB, at instant) {
	tb.Helper()
	p.start(ctx, tb, func(cmd *exec.Cmd, over <-chan struct{}) {
		p.until(at, over)
		_ = cmd.Process.Kill() // an error means that it has ended
	})
}

// interruptAt starts the program and interrupts it at the instant. From then on
// it is its report that names the run to go on with, also after kills.
func (p *process) interruptAt(ctx context.Context, tb testing.TB, at instant) {
	tb.Helper()
	p.start(ctx, tb, func(cmd *exec.Cmd, over <-chan struct{}) {
		p.until(at, over)
		_ = cmd.Process.Signal(os.Interrupt) // an error means that it has ended
		<-over
	})
	if p.code != 130 {
		return // it had ended by itself, or did not listen for signals yet: then this was a kill
	}
	p.ended = false
	p.reports++
	if err := os.Rename(p.path("report.json"), p.path("last.json")); err != nil {
		tb.Fatal(err)
	}
}

// finish starts the program and lets it end.
func (p *process) finish(ctx context.Context, tb testing.TB) {
	tb.Helper()
	p.start(ctx, tb, func(_ *exec.Cmd, over <-chan struct{}) { <-over })
	if !p.ended {
		tb.Fatalf("the program did not end by itself\n%s", p.stderr)
	}
}

func (p *process) start(ctx context.Context, tb testing.TB, meanwhile func(cmd *exec.Cmd, over <-chan struct{})) {
	tb.Helper()
	cmd := p.command(ctx)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	over := make(chan struct{})
	go func() { // ends with the process, which the channel tells
		defer close(over)
		_ = cmd.Wait() // how it ended stands in ProcessState
	}()
	meanwhile(cmd, over)
	<-over
	p.took = append(p.took, time.Since(began))
	p.stderr = stderr.String()
	p.ended, p.code = cmd.ProcessState.Exited(), cmd.ProcessState.ExitCode()
	if !p.ended {
		p.kills++
	}
}

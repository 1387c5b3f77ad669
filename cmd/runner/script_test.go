package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tidwall/gjson"
)

// long asks for fleets so large that their tests take minutes; see "make long".
var long = flag.Bool("long", false, "use the large fleets")

// sized is n, or many where the command line asks for large fleets.
func sized(n, many int) int {
	if *long {
		return many
	}
	return n
}

// The race detector keeps each program alive for a second after its end, for
// threads that are still at work. A runner has none then, and scripts start
// some three hundred of them.
const raceOptions = "atexit_sleep_ms=10"

// TestMain makes the test binary a runner, for the scripts to execute.
func TestMain(m *testing.M) {
	if err := os.Setenv("GORACE", raceOptions+" "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	// Most tests wait for a hub or for a time, so that more can run at once than
	// there are cores. The command line may say otherwise.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"runner": func() { os.Exit(run(os.Args[1:], testEnvironment())) },
	})
}

// testEnvironment is the process's own, with the faults that only a test can
// ask for.
func testEnvironment() environment {
	env := environment{getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	switch os.Getenv("RUNNER_TEST_PANIC") {
	case "command":
		env.getenv = func(string) string { panic("a test asked for it") }
	case "job":
		env.stderr = &panicOnce{out: os.Stderr, at: "job lock: started"}
	}
	return env
}

// panicOnce panics at the first line that holds at.
type panicOnce struct {
	out  io.Writer
	at   string
	once sync.Once
}

func (w *panicOnce) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.at) {
		w.once.Do(func() { panic("a test asked for it") })
	}
	return w.out.Write(p)
}

func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			repo, err := filepath.Abs("../..")
			if err != nil {
				return err
			}
			e.Setenv("REPO", repo)
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     cmdExits,
			"signalled": cmdSignalled,
			"deaf":      cmdDeaf,
			"serve":     cmdServe,
			"hub":       cmdHub,
			"entra":     cmdEntra,
			"proxy":     cmdProxy,
			"hole":      cmdHole,
			"report":    cmdReport,
			"jsonlines": cmdJSONLines,
			"values":    cmdValues,
			"step":      cmdStep,
			"secretless": func(ts *testscript.TestScript, _ bool, files []string) {
				for _, file := range files {
					noSecret(ts, file, ts.ReadFile(file))
				}
			},
			"fifo": cmdFIFO,
		},
	})
}

// processTimeout ends a program that hangs, so that its script fails by itself.
const processTimeout = time.Minute

// process is the runner as a script's command starts it.
type process struct {
	*exec.Cmd
	out, err bytes.Buffer
}

// command prepares a program of the script.
func command(ts *testscript.TestScript, args []string) *process {
	if len(args) == 0 {
		ts.Fatalf("name a program")
	}
	path, err := lookPath(ts.Getenv("PATH"), args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), processTimeout)
	ts.Defer(cancel)
	p := &process{Cmd: exec.CommandContext(ctx, path, args[1:]...)}
	p.Dir = ts.MkAbs(".")
	for _, key := range environmentKeys() {
		if v := ts.Getenv(key); v != "" {
			p.Env = append(p.Env, key+"="+v)
		}
	}
	p.Stdout, p.Stderr = &p.out, &p.err
	return p
}

// environmentKeys are what a script may set for the programs it runs.
func environmentKeys() []string {
	return []string{
		"PATH", "HOME", "TMPDIR", "XDG_STATE_HOME", "CI", "NO_COLOR", "TERM", "LANG",
		connectionStringVar, "SSL_CERT_FILE", "HTTPS_PROXY", "RUNNER_TEST_PANIC", "RUNNER_VAR_pw", "RUNNER_VAR_site", "GORACE", "HUB_EU", "HUB_US", "GITHUB_STEP_SUMMARY", "RUNNER_NOTIFY", "JOB_COMPLETION_INDEX", "AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE",
	}
}

func lookPath(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file, nil
		}
	}
	return "", errors.New("no program " + name + " in " + path)
}

// ended gives a process's streams to the script, and asserts its exit code and
// what holds for every end of every command.
func ended(ts *testscript.TestScript, p *process, want string, err error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("run: %v", err)
	}
	_, _ = ts.Stdout().Write(p.out.Bytes())
	_, _ = ts.Stderr().Write(p.err.Bytes())
	if got := strconv.Itoa(p.ProcessState.ExitCode()); got != want {
		ts.Fatalf("exit code %s, want %s\n%s", got, want, &p.err)
	}
	noSecret(ts, "stdout", p.out.String())
	noSecret(ts, "stderr", p.err.String())
	if want == "0" || want == "2" { // 2 is an answer: there are changes
		return
	}
	if n := lastWords(p.err.String(), want); n != 1 {
		ts.Fatalf("%d lines say what went wrong, want 1\n%s", n, &p.err)
	}
}

// lastWords counts the lines that say why a command ended with a code.
func lastWords(stderr, code string) (n int) {
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "runner: error: ") ||
			gjson.Get(line, "level").String() == "ERROR" && gjson.Get(line, "exitCode").String() == code {
			n++
		}
	}
	return n
}

// cmdExits is "exits CODE PROGRAM ARG...".
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	p := command(ts, args[1:])
	ended(ts, p, args[0], p.Run())
}

// cmdDeaf is "deaf CODE PROGRAM ARG...": nobody reads the program's stdout.
func cmdDeaf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: deaf CODE PROGRAM ARG...")
	}
	r, w, err := os.Pipe()
	ts.Check(err)
	ts.Check(r.Close())
	p := command(ts, args[1:])
	p.Stdout = w
	err = p.Run()
	ts.Check(w.Close())
	ended(ts, p, args[0], err)
}

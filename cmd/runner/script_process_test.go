package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// step is a signal to send once a line of stderr matches, or once a device has
// taken a call.
type step struct {
	signal os.Signal
	line   *regexp.Regexp
	device string
}

func parseStep(ts *testscript.TestScript, arg string) step {
	name, when, ok := strings.Cut(arg, "@")
	sig, known := map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}[name]
	if !ok || !known {
		ts.Fatalf("signal %q: want INT@LINE, TERM@LINE, HUP@LINE or INT@call:DEVICE", arg)
	}
	if device, ok := strings.CutPrefix(when, "call:"); ok {
		return step{signal: sig, device: device}
	}
	return step{signal: sig, line: regexp.MustCompile(when)}
}

// cmdSignalled is "signalled CODE SIGNAL@LINE... -- PROGRAM ARG...": it sends
// each signal when the program says a line that matches, one after the other.
func cmdSignalled(ts *testscript.TestScript, neg bool, args []string) {
	var steps []step
	i := 1
	for ; i < len(args) && args[i] != "--"; i++ {
		steps = append(steps, parseStep(ts, args[i]))
	}
	if neg || i+1 >= len(args) || len(steps) == 0 {
		ts.Fatalf("usage: signalled CODE SIGNAL@LINE... -- PROGRAM ARG...")
	}
	p := command(ts, args[i+1:])
	p.Stderr = nil
	stderr, err := p.StderrPipe()
	ts.Check(err)
	ts.Check(p.Start())
	lines := make(chan string)
	go func() { // ends with the program, whose lines the loop below takes until then
		defer close(lines)
		for in := bufio.NewScanner(io.TeeReader(stderr, &p.err)); in.Scan(); {
			lines <- in.Text()
		}
	}()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for open := true; open; {
		var line string
		select {
		case line, open = <-lines:
		case <-look.C:
		}
		if len(steps) > 0 && steps[0].due(ts, line) {
			ts.Check(p.Process.Signal(steps[0].signal))
			steps = steps[1:]
		}
	}
	err = p.Wait()
	if len(steps) > 0 {
		ts.Fatalf("never came: %+v\n%s", steps[0], &p.err)
	}
	ended(ts, p, args[0], err)
}

func (s step) due(ts *testscript.TestScript, line string) bool {
	if s.device != "" {
		return hubOf(ts).Executed(s.device).Methods > 0
	}
	return line != "" && s.line.MatchString(line)
}

// cmdServe is "serve READYFILE ARG...": it runs "runner emulator" until the
// script ends, and goes on when that says that it is ready. The connection
// string of READYFILE becomes the environment's.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: serve READYFILE ARG...")
	}
	p := command(ts, append([]string{"runner", "emulator", "--mqtt", "127.0.0.1:0", "--ready-file", args[0]}, args[1:]...))
	p.Stderr = nil
	stderr, err := p.StderrPipe()
	ts.Check(err)
	ts.Check(p.Start())
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "runner: emulator: hub ") {
		ts.Logf("%s", lines.Text())
	}
	rest := make(chan string, 1) // one value, taken by the deferred function
	go func() {                  // ends when the process does; the deferred function waits for it
		text, _ := io.ReadAll(stderr)
		rest <- string(text)
	}()
	ts.Defer(func() {
		_ = p.Process.Signal(syscall.SIGTERM)
		said := <-rest
		if err := p.Wait(); err != nil {
			ts.Logf("emulator: %v\n%s", err, said)
		}
	})
	var r ready
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &r))
	ts.Setenv(connectionStringVar, r.ServiceConnectionString)
	ts.Setenv("CA_FILE", r.CAFile)
	ts.Setenv("HUB", r.HostName)
}

// cmdFIFO is "fifo NAME FILE": it makes a named pipe and copies what comes out
// of it to a file, which is whole when "fifo -wait FILE" returns.
func cmdFIFO(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fifo NAME FILE | fifo -wait FILE")
	}
	file := ts.MkAbs(args[1])
	if args[0] == "-wait" {
		late := time.NewTimer(processTimeout)
		defer late.Stop()
		select {
		case err := <-fifoOf(ts, file):
			ts.Check(err)
		case <-late.C:
			ts.Fatalf("nobody wrote to the pipe, or closed it")
		}
		return
	}
	name := ts.MkAbs(args[0])
	ts.Check(makeFIFO(name))
	done := fifoOf(ts, file)
	go func() { // ends when the writer closes the pipe; "fifo -wait" waits for it
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		done <- err
	}()
}

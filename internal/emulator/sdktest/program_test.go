package sdktest_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"iothub-runner/internal/hubtest/foreign"
)

// TestMain removes what the tests built.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(buildDir()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// buildDir belongs to this process alone.
func buildDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("runner-sdktest-%d", os.Getpid()))
}

const programPackage = "iothub-runner/cmd/runner"

// built is the program that people run, built once, when a test first needs
// it. Under the race detector it has one of its own: a race ends the program
// with a status that the tests see.
var built = sync.OnceValues(func() (string, error) {
	if err := readSources(); err != nil {
		return "", err
	}
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
	if out, err := exec.Command("go", append(args, programPackage)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// readSources reads every file that the program is made of. go test keeps
// results, and knows only of files that the test itself has opened: without
// this it would pass for a program that has changed since.
func readSources() error {
	const form = `{{if .Module}}{{if .Module.Main}}{{range .GoFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`
	out, err := exec.Command("go", "list", "-deps", "-f", form, programPackage).Output()
	if err != nil {
		return fmt.Errorf("list the program's files: %w", err)
	}
	files := strings.Fields(string(out))
	if len(files) == 0 {
		return errors.New("go list knows no file of the program")
	}
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			return err
		}
	}
	return nil
}

// Bounds of a program that hangs.
const (
	readyDeadline = 30 * time.Second
	stopDeadline  = 30 * time.Second
)

// process is a runner emulator of its own.
type process struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when it says that it listens
	over  chan struct{} // closed when it has ended

	mu   sync.Mutex
	said bytes.Buffer // guarded by mu
}

// launch starts the program and returns when it listens. What it says stays in
// the process, for messages of failure.
func launch(args ...string) (*process, error) {
	program, err := built()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(program, append([]string{"emulator"}, args...)...), ready: make(chan struct{}), over: make(chan struct{})}
	// A program with the race detector lingers for a second before it ends.
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.listen(stderr) // ends with the process, whose end stop waits for
	late := time.NewTimer(readyDeadline)
	defer late.Stop()
	select {
	case <-p.ready:
		return p, nil
	case <-p.over:
		return nil, p.refusal()
	case <-late.C:
		return nil, errors.Join(fmt.Errorf("the emulator was not ready within %s\n%s", readyDeadline, p.text()), p.stop())
	}
}

// listen keeps what the program says, and reaps it.
func (p *process) listen(stderr io.Reader) {
	defer close(p.over)
	announced := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		p.mu.Lock()
		p.said.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if !announced && strings.HasPrefix(lines.Text(), "runner: emulator: hub ") {
			announced = true
			close(p.ready)
		}
	}
	_ = p.cmd.Wait() // how it ended stands in ProcessState
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// refusal says why the program ended before it listened. Ports that cannot be
// had are the machine's affair.
func (p *process) refusal() error {
	said := p.text()
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EADDRINUSE} {
		if strings.Contains(said, "bind: "+errno.Error()) {
			return foreign.AbsenceError("the ports cannot be had: " + errno.Error())
		}
	}
	return fmt.Errorf("the emulator did not start: %s\n%s", p.cmd.ProcessState, said)
}

// stop ends the program as people do, and fails unless it ends well.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the emulator: %w", err)
	}
	late := time.NewTimer(stopDeadline)
	defer late.Stop()
	select {
	case <-p.over:
	case <-late.C:
		_ = p.cmd.Process.Kill() // an error means that it has ended
		<-p.over
		return fmt.Errorf("the emulator did not end within %s of SIGTERM\n%s", stopDeadline, p.text())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the emulator ended with %s, want status 0\n%s", p.cmd.ProcessState, p.text())
	}
	return nil
}

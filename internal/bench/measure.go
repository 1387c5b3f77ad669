package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hub is an emulated hub in a process of its own.
type hub struct {
	dir   string
	proc  *exec.Cmd
	env   []string
	admin string // address of its control endpoint
}

const readyTimeout = time.Minute

func startHub(s settings, fleet string, extra ...string) (*hub, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	h := &hub{dir: dir}
	if err := os.WriteFile(h.path("fleet.yaml"), []byte(fleet), 0o600); err != nil {
		return nil, err
	}
	args := append([]string{
		"-c", s.serverCPU, s.runner, "emulator", "--quiet", "--https", "127.0.0.1:0", "--mqtt", "127.0.0.1:0",
		"--fleet", h.path("fleet.yaml"), "--ready-file", h.path("ready.json"), "--admin", "127.0.0.1:0",
	}, extra...)
	h.proc = exec.Command("taskset", args...) //nolint:noctx // ended by stop
	h.proc.Stderr = os.Stderr
	if err := h.proc.Start(); err != nil {
		return nil, err
	}
	return h, h.awaitReady()
}

func (h *hub) path(name string) string { return filepath.Join(h.dir, name) }

func (h *hub) awaitReady() error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(readyTimeout); time.Now().Before(end); <-tick.C {
		text, err := os.ReadFile(h.path("ready.json"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var ready struct{ CAFile, ServiceConnectionString, AdminAddr string }
		if err := json.Unmarshal(text, &ready); err != nil {
			return err
		}
		h.admin = ready.AdminAddr
		h.env = append(os.Environ(),
			"IOTHUB_SERVICE_CONNECTION_STRING="+ready.ServiceConnectionString,
			"SSL_CERT_FILE="+ready.CAFile, "XDG_STATE_HOME="+h.path("state"), "HOME="+h.path("state"))
		return nil
	}
	return errors.New("the emulator was not ready in time")
}

func (h *hub) stop() error {
	err := h.proc.Process.Signal(os.Interrupt)
	return errors.Join(err, h.proc.Wait(), os.RemoveAll(h.dir))
}

// usage is what a finished process has used.
type usage struct {
	cpu  time.Duration
	wall time.Duration
	rss  int64 // at its peak, in bytes
}

// measure runs a program pinned to the client's core.
func (h *hub) measure(s settings, args ...string) (usage, error) {
	cmd := exec.Command("taskset", append([]string{"-c", s.clientCPU}, args...)...) //nolint:noctx // it ends by itself
	cmd.Env = h.env
	var said bytes.Buffer
	cmd.Stderr = &said
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, said.Bytes())
	}
	u := usage{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), wall: time.Since(begin)}
	u.rss = peakMemory(cmd.ProcessState)
	return u, nil
}

// apply runs a plan and leaves its report in the hub's folder.
func (h *hub) apply(s settings, plan string) (usage, error) {
	if err := os.WriteFile(h.path("plan.yaml"), []byte(plan), 0o600); err != nil {
		return usage{}, err
	}
	u, err := h.measure(s, s.runner, "apply", "--progress", "none", "--report", h.path("report.json"), h.path("plan.yaml"))
	if err != nil {
		return u, err
	}
	return u, h.checkReport(s.devices * strings.Count(plan, "type:"))
}

// checkReport makes sure that what was measured is the whole work.
func (h *hub) checkReport(want int) error {
	f, err := os.Open(h.path("report.json"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	var report struct {
		Summary struct {
			Targets  int
			Outcomes map[string]int
		}
	}
	if err := json.NewDecoder(f).Decode(&report); err != nil {
		return err
	}
	if n := report.Summary.Outcomes["succeeded"]; n != want {
		return fmt.Errorf("%d of %d rows succeeded: %v", n, want, report.Summary.Outcomes)
	}
	return nil
}

// pair runs both sides in turn and prints the ratios of their processor time.
func pair(name string, s settings, runner, bare func(n int) (usage, error)) error {
	var ratios []float64
	var ours, theirs []time.Duration
	for n := range s.pairs + 1 {
		a, err := runner(n)
		if err != nil {
			return err
		}
		b, err := bare(n)
		if err != nil {
			return err
		}
		if n == 0 {
			continue // a warm-up
		}
		ratios = append(ratios, float64(a.cpu)/float64(b.cpu))
		ours, theirs = append(ours, a.cpu), append(theirs, b.cpu)
	}
	slices.Sort(ratios)
	fmt.Printf("%-8s runner/bare CPU: median %.2f (min %.2f, max %.2f) over %d pairs; %v and %v a device\n",
		name, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], len(ratios),
		median(ours)/time.Duration(s.devices), median(theirs)/time.Duration(s.devices))
	return nil
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func doors(n int) string {
	return `version: 1
seed: 1
devices:
  - idPattern: door-%06d
    count: ` + strconv.Itoa(n) + `
    methods:
      lockDoor: {status: 200, payload: {Response: lockDoor called successfully}}
`
}

const methodBody = `{"methodName":"lockDoor","payload":{"lockTime":"10m"},"connectTimeoutInSeconds":0,"responseTimeoutInSeconds":30}`

func measureMethod(s settings) error {
	h, err := startHub(s, doors(s.devices))
	if err != nil {
		return err
	}
	plan := fmt.Sprintf(`version: 1
name: bench-method
jobs:
  - {name: lock, type: directMethod, target: {all: true}, method: lockDoor, payload: {lockTime: 10m}, concurrency: %d}
`, s.concurrency)
	err = pair("method", s,
		func(int) (usage, error) { return h.apply(s, plan) },
		func(int) (usage, error) {
			return h.measure(s, os.Args[0], "loop", "-devices", strconv.Itoa(s.devices),
				"-concurrency", strconv.Itoa(s.concurrency), "-body", methodBody)
		})
	return errors.Join(err, h.stop())
}

func measureTwin(s settings) error {
	h, err := startHub(s, doors(s.devices))
	if err != nil {
		return err
	}
	err = pair("twin", s,
		func(n int) (usage, error) {
			return h.apply(s, fmt.Sprintf(`version: 1
name: bench-twin
jobs:
  - {name: move, type: updateTwin, target: {all: true}, desired: {building: 43, floor: %d}, concurrency: %d}
`, 2*n, s.concurrency))
		},
		func(n int) (usage, error) {
			return h.measure(s, os.Args[0], "loop", "-devices", strconv.Itoa(s.devices), "-concurrency", strconv.Itoa(s.concurrency),
				"-verb", "PATCH", "-suffix", "", "-body", fmt.Sprintf(`{"properties":{"desired":{"building":43,"floor":%d}}}`, 2*n+1))
		})
	return errors.Join(err, h.stop())
}

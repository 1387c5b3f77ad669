package emulator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/twindoc"
)

// firstLog is what a hub in dir appends to from its first start on.
func firstLog(dir string) string { return filepath.Join(dir, "state.1.log") }

func readAll(t *testing.T, file string) []byte {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func writeAll(t *testing.T, file string, src []byte) {
	t.Helper()
	if err := os.WriteFile(file, src, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLogCutAnywhere ends the log at every byte: a hub opens all the same, with
// what the whole lines say and nothing of the torn one.
func TestLogCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	h := reopen(t, dir, moods)
	writes := []string{`{"tags":{"n":1}}`, `{"tags":{"n":2,"a":"é"}}`, `{"tags":{"n":3}}`}
	for _, w := range writes {
		h.do(t, "PATCH", "/twins/ok", w).want(t, 200)
	}
	left := leftBehind(t, dir)
	h.leave(t)
	log := readAll(t, firstLog(left))
	if lines := bytes.Count(log, []byte("\n")); lines != len(writes) {
		t.Fatalf("the log has %d lines for %d writes:\n%s", lines, len(writes), log)
	}
	for n := range len(log) + 1 {
		writeAll(t, firstLog(left), log[:n])
		again := reopen(t, left, moods)
		want := bytes.Count(log[:n], []byte("\n"))
		tags, _ := again.do(t, "GET", "/twins/ok", "").want(t, 200).doc(t)["tags"].(map[string]any)
		got, _ := tags["n"].(float64)
		same(t, "written, of a log of "+strconv.Itoa(n)+" bytes", int(got), want)
		// What comes next goes to a log of its own, after the torn one.
		again.do(t, "PATCH", "/twins/ok", `{"tags":{"next":true}}`).want(t, 200)
		twice := leftBehind(t, left)
		if n%40 == 0 {
			third := reopen(t, twice, moods)
			tags, _ = third.do(t, "GET", "/twins/ok", "").want(t, 200).doc(t)["tags"].(map[string]any)
			same(t, "written after the torn line", tags["next"], any(true))
		}
		if err := errors.Join(again.abandon(), os.Remove(filepath.Join(left, "state.2.log"))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStateInUse keeps a second emulator from the files of one that runs.
func TestStateInUse(t *testing.T) {
	dir := t.TempDir()
	opts := Options{TLSDir: dir, StateFile: filepath.Join(dir, "state")}
	h := reopen(t, dir, moods)
	if _, err := New(opts); err == nil || !strings.Contains(err.Error(), "used by another emulator") {
		t.Errorf("New on the state of a hub that runs = %v, want a refusal", err)
	}
	h.leave(t)
	s, err := New(opts)
	if err != nil {
		t.Fatalf("New when the other one has ended: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestDamagedLog(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "{\n", "nothing": "{}\n", "zeros": "\x00\x00\n", "bad id": `{"device":{"id":"a b","twin":{}}}` + "\n",
		"no message": `{"mail":{"device":"d"}}` + "\n", "message for nobody": `{"mail":{"forget":true}}` + "\n",
		"row of no job's":       `{"job":{"id":"j","body":{}}}` + "\n" + `{"step":{"job":"j","at":1,"row":{}}}` + "\n",
		"damage before the end": "oops\n" + `{"clock":1}` + "\n",
	} {
		dir := t.TempDir()
		writeAll(t, firstLog(dir), []byte(text))
		_, err := New(Options{TLSDir: dir, StateFile: filepath.Join(dir, "state")})
		if err == nil || !strings.Contains(err.Error(), "state.1.log") || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: New = %v, want an error that names the log and its line", name, err)
		}
	}
}

// TestCrashWhileTheStateIsWritten opens what is left at each step of it.
func TestCrashWhileTheStateIsWritten(t *testing.T) {
	dir := t.TempDir()
	h := reopen(t, dir, moods)
	h.do(t, "PATCH", "/twins/ok", `{"tags":{"n":1}}`).want(t, 200)
	h.do(t, "PUT", "/devices/new", "{}").want(t, 200)
	before := leftBehind(t, dir)
	if err := h.saveState(); err != nil {
		t.Fatal(err)
	}
	h.do(t, "PATCH", "/twins/ok", `{"tags":{"n":2}}`).want(t, 200)
	h.do(t, "DELETE", "/devices/new", "", "If-Match", "*").want(t, 204)
	after := leftBehind(t, dir)
	h.leave(t)
	check := func(what, dir string, n float64, newStatus int) {
		t.Helper()
		again := reopen(t, dir, moods)
		same(t, what, at(t, again.do(t, "GET", "/twins/ok", "").doc(t), "tags", "n"), any(n))
		again.do(t, "GET", "/devices/new", "").want(t, newStatus)
		entries, err := filepath.Glob(filepath.Join(dir, "state*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e, unfinished) || strings.HasSuffix(e, ".1.log") && n == 2 && what != "before the file is in place" {
				t.Errorf("%s: %s is still there", what, e)
			}
		}
	}
	// The old state, both logs, and a part of the new state.
	torn := leftBehind(t, before)
	writeAll(t, filepath.Join(torn, "state.2.log"), readAll(t, filepath.Join(after, "state.2.log")))
	writeAll(t, filepath.Join(torn, "state.77"+unfinished), []byte(`{"sch`))
	check("before the file is in place", torn, 2, 404)
	// The new state, and the log that it contains.
	writeAll(t, firstLog(after), readAll(t, firstLog(before)))
	check("before the old log is gone", after, 2, 404)
	check("before anything was written", before, 1, 200)
}

// TestLogGrowsIntoTheState keeps the log from growing for ever, and recovers
// from a log that cannot be written.
func TestLogGrowsIntoTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := reopen(t, dir, moods)
		h.serving.Go(h.keepSaving)
		h.do(t, "PATCH", "/twins/ok", `{"tags":{"a":1}}`).want(t, 200)
		time.Sleep(10 * stateSync)
		synctest.Wait()
		if !bytes.Contains(readAll(t, firstLog(dir)), []byte(`"a":1`)) {
			t.Error("the log was taken away though it is small")
		}
		h.stateLog.mu.Lock()
		h.stateLog.size = minLogSize + 1 // as many writes would have made it
		h.stateLog.mu.Unlock()
		time.Sleep(2 * stateSync)
		synctest.Wait()
		if _, err := os.Stat(firstLog(dir)); err == nil {
			t.Error("the log is there though it had grown large")
		}
		if !bytes.Contains(readAll(t, filepath.Join(dir, "state")), []byte(`"a":1`)) {
			t.Error("the state lacks what stood in the log")
		}
		// A log that stands in the way is an error of the log, not of the call.
		writeAll(t, filepath.Join(dir, "state.2.log"), nil)
		h.do(t, "PATCH", "/twins/ok", `{"tags":{"a":2}}`).want(t, 200)
		time.Sleep(2 * stateSync)
		synctest.Wait()
		if !bytes.Contains(readAll(t, filepath.Join(dir, "state")), []byte(`"a":2`)) {
			t.Error("what could not be logged was not saved")
		}
		h.leave(t)
	})
}

func TestResetIsKept(t *testing.T) {
	dir := t.TempDir()
	h := reopen(t, dir, moods)
	h.do(t, "PATCH", "/twins/ok", `{"tags":{"a":1}}`).want(t, 200)
	h.do(t, "PUT", "/devices/new", "{}").want(t, 200)
	h.Reset()
	left := leftBehind(t, dir)
	h.leave(t)
	again := reopen(t, left, moods)
	again.do(t, "GET", "/devices/new", "").want(t, 404)
	same(t, "version", again.do(t, "GET", "/twins/ok", "").doc(t)["version"], any(float64(twindoc.FirstVersion)))
}

// doomedHub names the variable that makes this test binary a hub which is
// killed: the directory that it keeps its state in.
const doomedHub = "EMULATOR_DOOMED_HUB"

// acked is one write that was acknowledged: of device number N, the nth.
type acked struct {
	Kind string
	N    int
	Nth  int
}

// writeUntilKilled writes for ever, and tells of each write once it was
// acknowledged. Now and then the whole state is written beside.
func writeUntilKilled(dir string, tell io.Writer) error {
	s, err := New(Options{TLSDir: dir, StateFile: filepath.Join(dir, "state")})
	if err != nil {
		return err
	}
	go func() { // ends with the process
		for {
			if err := s.saveState(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	enc := json.NewEncoder(tell)
	for nth := 1; ; nth++ {
		for n := range 4 {
			kind, err := doomedWrite(s, n, nth)
			if err != nil {
				return err
			}
			if err := enc.Encode(acked{kind, n, nth}); err != nil {
				return err
			}
		}
	}
}

// doomedWrite registers a device, writes its twin, and sends it a message every
// seventh time; every fifth time it deletes it first.
func doomedWrite(s *Server, n, nth int) (string, error) {
	id := "doomed-" + strconv.Itoa(n)
	if nth%5 == 0 {
		if refusal := s.unregister(id, twindoc.Condition{}); refusal != nil && refusal.Status != 404 {
			return "", refusal
		}
		return "deleted", nil
	}
	if _, known := s.Store.Find(id); !known {
		if _, refusal := s.register(id, registryInput{}); refusal != nil {
			return "", refusal
		}
	}
	w, refusal := twindoc.ParseWrite([]byte(`{"tags":{"nth":`+strconv.Itoa(nth)+`}}`), true)
	if refusal != nil {
		return "", refusal
	}
	if _, refusal := s.WriteTwin(id, "", w); refusal != nil {
		return "", refusal
	}
	if nth%7 == 0 && s.front.Mail.Count(id) < devices.MaxMail {
		return "sent", s.Send(context.Background(), id, devices.Message{ID: strconv.Itoa(nth)})
	}
	return "written", nil
}

// TestKilledHub kills a hub at random instants, again and again over the same
// files, and looks whether everything that it acknowledged is there.
func TestKilledHub(t *testing.T) {
	dir := t.TempDir()
	for round := range 12 {
		last := killOne(t, dir, 1+rand.IntN(400)) //nolint:gosec // any instant will do
		s, err := New(Options{TLSDir: dir, StateFile: filepath.Join(dir, "state")})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for n, a := range last {
			checkAcked(t, s, n, a)
		}
		// It ends as it would by a kill: the next process finds its logs.
		if err := s.abandon(); err != nil {
			t.Fatal(err)
		}
	}
}

// killOne runs a hub until it has acknowledged so many writes, and returns the
// last one of each device.
func killOne(t *testing.T, dir string, writes int) map[int]acked {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), doomedHub+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := map[int]acked{}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		var a acked
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			break // the kill tore it
		}
		last[a.N] = a
		if n == writes {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(last) == 0 {
		t.Fatalf("the hub ended by itself: %v", err)
	}
	return last
}

// checkAcked looks whether a device is as its last acknowledged write left it,
// or as the one after it did, which may have been under way.
func checkAcked(t *testing.T, s *Server, n int, a acked) {
	t.Helper()
	id := "doomed-" + strconv.Itoa(n)
	m, refusal := s.Store.Look(id, "")
	next := a.Nth + 1
	switch {
	case refusal != nil && (a.Kind == "deleted" || next%5 == 0):
		return
	case refusal != nil:
		t.Errorf("%s was lost after %+v", id, a)
		return
	case a.Kind == "deleted":
		return // registered anew, with or without its twin
	}
	tags := s.Store.Twin(m).Tags.Raw
	if tags != `{"nth":`+strconv.Itoa(a.Nth)+`}` && tags != `{"nth":`+strconv.Itoa(next)+`}` {
		t.Errorf("%s has the tags %s after %+v", id, tags, a)
	}
	if a.Kind != "sent" {
		return
	}
	for _, w := range s.Queue(id) {
		if w.ID == strconv.Itoa(a.Nth) {
			return
		}
	}
	t.Errorf("%s: the message was lost that was acknowledged by %+v", id, a)
}

//go:build !windows

package journal_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"iothub-runner/internal/journal"
)

// The tests below run this test binary again, as a process that can be killed
// or be given a limit. These variables tell it what to do.
const (
	childTask = "JOURNAL_TEST_TASK"
	childFile = "JOURNAL_TEST_FILE"
	childMode = "JOURNAL_TEST_DURABILITY"
)

func TestMain(m *testing.M) {
	mode, _ := strconv.Atoi(os.Getenv(childMode))
	path, d := os.Getenv(childFile), journal.Durability(mode)
	switch os.Getenv(childTask) {
	case "":
		os.Exit(m.Run())
	case "write":
		os.Exit(childWrites(path, d))
	case "fill":
		os.Exit(childFills(path, d))
	}
	os.Exit(2)
}

// childWrites writes lines until it is killed and says which are acknowledged.
func childWrites(path string, d journal.Durability) int {
	w, err := journal.Create(path, header(), d)
	for n := 0; err == nil; n++ {
		if err = commit(w, mark(strconv.Itoa(n))); err == nil {
			_, err = fmt.Println(n)
		}
	}
	fmt.Println(err)
	return 1
}

// childFills writes lines until there is no room and says what it is told.
func childFills(path string, d journal.Durability) int {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 5000, Max: 5000}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Println(err)
		return 1
	}
	w, err := journal.Create(path, header(), d)
	n := 0
	for ; err == nil; n++ {
		err = commit(w, mark(strconv.Itoa(n)))
	}
	fmt.Printf("%d\n%v\n", n-1, err)
	return 0
}

func child(t *testing.T, task, path string, d journal.Durability) (*exec.Cmd, io.ReadCloser) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childTask+"="+task, childFile+"="+path, childMode+"="+strconv.Itoa(int(d)))
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // the race detector's second of waiting is for nothing
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// numbered returns how many marks a journal holds, which must count from 0.
func numbered(path string) (n int, w *journal.Writer, err error) {
	w, err = journal.Open(path, journal.Batch, func(_ journal.Position, rec journal.Record) error {
		m, ok := rec.(journal.Mark)
		if !ok {
			return nil
		}
		if m.Detail != strconv.Itoa(n) {
			return fmt.Errorf("mark %s follows %d others", m.Detail, n)
		}
		n++
		return nil
	})
	return n, w, err
}

// TestKill: a process that is killed while it writes has lost nothing that it
// was told is acknowledged, in any mode, and its lock is gone with it.
func TestKill(t *testing.T) {
	for _, d := range everyDurability() {
		path := t.TempDir() + "/20261122T231500Z-3f2a9c.ndjson"
		cmd, out := child(t, "write", path, d)
		said := bufio.NewScanner(out)
		acknowledged := 0
		for said.Scan() && acknowledged < 100 {
			acknowledged++
		}
		// The process writes on, so these meet its lock.
		if _, _, err := numbered(path); !errors.Is(err, journal.ErrInUse) {
			t.Errorf("durability %d: Open while another process writes = %v, want ErrInUse", d, err)
		}
		if _, err := journal.Create(path, header(), d); !errors.Is(err, journal.ErrInUse) {
			t.Errorf("durability %d: Create while another process writes = %v, want ErrInUse", d, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for said.Scan() { // what it said before it died
			if n, err := strconv.Atoi(said.Text()); err == nil {
				acknowledged = n + 1
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("durability %d: the process ended by itself, want it killed", d)
		}
		n, w, err := numbered(path)
		if err != nil {
			t.Errorf("durability %d: Open after the kill: %v", d, err)
			continue
		}
		if acknowledged < 100 || n < acknowledged {
			t.Errorf("durability %d: %d lines are left, want the %d acknowledged ones, at least 100", d, n, acknowledged)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFileSizeLimit: a disk that fills up in the middle of a line.
func TestFileSizeLimit(t *testing.T) {
	for _, d := range everyDurability() {
		path := t.TempDir() + "/run.ndjson"
		cmd, out := child(t, "fill", path, d)
		text, err := io.ReadAll(out)
		if err = errors.Join(err, cmd.Wait()); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		count, message, _ := strings.Cut(string(text), "\n")
		want := "write journal: no room is left for it; make room, then resume the run from its journal: write " + path + ": file too large\n"
		if message != want {
			t.Errorf("durability %d: the error is %q, want %q", d, message, want)
		}
		acknowledged, err := strconv.Atoi(count)
		if size := len(readFile(t, path)); err != nil || acknowledged < 10 || size != 5000 {
			t.Errorf("durability %d: %q lines acknowledged, %d bytes written, want some and 5000", d, count, size)
		}
		n, w, err := numbered(path)
		if err != nil {
			t.Errorf("durability %d: Open: %v", d, err)
			continue
		}
		if n < acknowledged {
			t.Errorf("durability %d: %d lines are left, want the %d acknowledged ones", d, n, acknowledged)
		}
		if err := errors.Join(commit(w, mark(strconv.Itoa(n))), w.Close()); err != nil {
			t.Errorf("durability %d: with room again: %v", d, err)
		}
	}
}

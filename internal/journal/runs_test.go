package journal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/journal"
)

// runFile writes the journal of a run that ended so; empty for one that did not.
func runFile(t *testing.T, path, detail string, rows int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	run := strings.TrimSuffix(filepath.Base(path), ".ndjson")
	w, err := journal.Create(path, journal.Header{Run: run, Plan: "p", File: "plan.yaml", Hubs: []string{"h"}, StartedAt: time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)}, journal.Off)
	if err != nil {
		t.Fatal(err)
	}
	line := func(b []byte) {
		if _, err := w.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	for range rows {
		line(journal.Result{Job: "j", Target: journal.Target{Device: "d"}, Row: []byte(`{"deviceId":"d","outcome":"succeeded","attempts":1}`)}.Append(nil))
	}
	if detail != "" {
		summary, err := journal.Ending{Status: "failed", Targets: 3, Outcomes: map[string]int{"succeeded": 2, "offline": 1}}.Mark(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		line(summary.Append(nil))
		line(journal.Mark{Event: journal.EventEnded, At: time.Now(), Detail: detail}.Append(nil))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCompressAndRestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "20261127T020000Z-aaaaaa.ndjson")
	runFile(t, path, journal.FinishedDetail, 10_000)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := journal.Open(path, journal.Off, func(journal.Position, journal.Record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err = journal.Compress(path); err != nil {
		t.Fatal(err)
	}
	if _, err = os.Stat(path); err != nil {
		t.Errorf("a journal that somebody writes was compressed: %v", err)
	}
	if err = w.Close(); err != nil {
		t.Fatal(err)
	}
	if err = journal.Compress(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path + ".zst")
	if _, gone := os.Stat(path); err != nil || !errors.Is(gone, os.ErrNotExist) || info.Size()*10 > int64(len(was)) {
		t.Fatalf("after Compress: %v, %v, %d of %d bytes", err, gone, info.Size(), len(was))
	}
	if found, lookErr := journal.Lookup(path); lookErr != nil || found != path+".zst" {
		t.Errorf("Lookup: %q, %v", found, err)
	}
	f, err := journal.OpenRead(path + ".zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if rows, err := journal.Replay(f, func(journal.Position, journal.Record) error { return nil }); err != nil || int(rows) != len(was) {
		t.Errorf("Replay of a compressed journal: %d bytes, %v", rows, err)
	}
	if back, err := journal.Restore(path); err != nil || back != path {
		t.Fatalf("Restore: %q, %v", back, err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, was) {
		t.Errorf("the restored journal is another: %v", err)
	}
	if back, err := journal.Restore(path); err != nil || back != path {
		t.Errorf("Restore of a journal that is there: %q, %v", back, err)
	}
}

func TestFindAndLook(t *testing.T) {
	root := t.TempDir()
	runFile(t, filepath.Join(root, "h", "p", "20261127T020000Z-aaaaaa.ndjson"), journal.FinishedDetail, 1)
	runFile(t, filepath.Join(root, "h", "p", "20261127T030000Z-bbbbbb.ndjson"), "", 1)
	runFile(t, filepath.Join(root, "h", "q", "1-of-2", "20261127T040000Z-cccccc.ndjson"), "unfinished", 1)
	if err := os.WriteFile(filepath.Join(root, "h", "p", "notes.ndjson"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := journal.Find(root)
	if err != nil || len(all) != 3 || all[0].Run != "20261127T040000Z-cccccc" {
		t.Fatalf("Find: %v, %v", all, err)
	}
	for i, want := range []struct{ ended, finished bool }{{true, false}, {false, false}, {true, true}} {
		h, e, finished, err := all[i].Look()
		if err != nil || h.Plan != "p" || (e != nil) != want.ended || finished != want.finished || e != nil && (e.Targets != 3 || e.Outcomes["offline"] != 1) {
			t.Errorf("Look at %s: %+v, %+v, finished %t, %v", all[i].Run, h, e, finished, err)
		}
		if all[i].InUse() {
			t.Errorf("%s is in use", all[i].Run)
		}
	}
	if none, err := journal.Find(filepath.Join(root, "nowhere")); err != nil || len(none) != 0 {
		t.Errorf("Find where there is nothing: %v, %v", none, err)
	}
}

// Of what takes too much room, the oldest that is finished goes first; what is being
// written, and the newest, stay.
func TestShrink(t *testing.T) {
	root := t.TempDir()
	path := func(name string) string { return filepath.Join(root, name+".ndjson") }
	for _, name := range []string{"20261127T010000Z-aaaaaa", "20261127T020000Z-bbbbbb", "20261127T030000Z-cccccc", "20261127T040000Z-dddddd"} {
		runFile(t, path(name), "", 100)
	}
	if err := journal.Compress(path("20261127T030000Z-cccccc")); err != nil {
		t.Fatal(err)
	}
	w, err := journal.Open(path("20261127T010000Z-aaaaaa"), journal.Off, func(journal.Position, journal.Record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	left := func(limit int64) string {
		all, findErr := journal.Find(root)
		if findErr != nil {
			t.Fatal(findErr)
		}
		if _, shrinkErr := journal.Shrink(all, limit); shrinkErr != nil {
			t.Fatal(shrinkErr)
		}
		if all, findErr = journal.Find(root); findErr != nil {
			t.Fatal(findErr)
		}
		var runs []string
		for i := range all {
			runs = append(runs, all[i].Run[16:])
		}
		return strings.Join(runs, " ")
	}
	if have := left(1 << 30); have != "-dddddd -cccccc -bbbbbb -aaaaaa" {
		t.Errorf("with room for all: %s", have)
	}
	info, err := os.Stat(path("20261127T020000Z-bbbbbb"))
	if err != nil {
		t.Fatal(err)
	}
	if have := left(3 * info.Size()); have != "-dddddd -bbbbbb -aaaaaa" {
		t.Errorf("with room for three: %s; the finished one goes first", have)
	}
	if have := left(1); have != "-dddddd -aaaaaa" {
		t.Errorf("with no room: %s; the newest stays, and so does the one that is written", have)
	}
}

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPendingFile replaces a file at once, keeps its permissions, and leaves
// nothing else in the directory, whether the file was wanted or not.
func TestPendingFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place := filepath.Join(dir, "report.json")
	if err := os.WriteFile(place, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(place); err != nil || string(got) != want { //nolint:gosec // the test's own file
			t.Errorf("the file holds %q, %v; want %q", got, err, want)
		}
	}
	for _, wanted := range []bool{false, true} {
		p, err := newPendingFile(place, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteString("new"); err != nil {
			t.Fatal(err)
		}
		holds("old")
		if wanted {
			if err := p.replace(); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.discard(); err != nil {
			t.Fatal(err)
		}
	}
	holds("new")
	if err := replaceFile(place, []byte("newer"), 0o644); err != nil {
		t.Fatal(err)
	}
	holds("newer")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the directory holds %v, %v; want the file alone", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 && filepath.Separator == '/' {
		t.Errorf("permissions %v, %v; want those of the old file", info.Mode(), err)
	}
}

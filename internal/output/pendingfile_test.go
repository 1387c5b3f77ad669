package output

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPendingFile replaces a file at once, with its own mode, and leaves
// nothing else in the directory, whether the file was wanted or not.
func TestPendingFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place := filepath.Join(dir, "report.json")
	if err := os.WriteFile(place, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	holds := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(place); err != nil || string(got) != want { //nolint:gosec // the test's own file
			t.Errorf("the file holds %q, %v; want %q", got, err, want)
		}
	}
	for _, wanted := range []bool{false, true} {
		p, err := Create(place, Private)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.WriteString("new"); err != nil {
			t.Fatal(err)
		}
		holds("old")
		if wanted {
			if err := p.Replace(); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Discard(); err != nil {
			t.Fatal(err)
		}
	}
	holds("new")
	if err := WriteFile(place, []byte("newer"), Private); err != nil {
		t.Fatal(err)
	}
	holds("newer")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the directory holds %v, %v; want the file alone", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 && filepath.Separator == '/' {
		t.Errorf("permissions %v, %v; want those that were asked for", info.Mode(), err)
	}
}

// TestPendingFileThatCannotMove writes over what it cannot replace, and leaves
// nothing else.
func TestPendingFileThatCannotMove(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	place := filepath.Join(dir, "report.json")
	if err := os.WriteFile(place, []byte("old and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := createHidden(elsewhere, "report.json", Private)
	if err != nil {
		t.Fatal(err)
	}
	p := &File{File: f, place: place}
	if _, err = p.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if err = p.Close(); err != nil {
		t.Fatal(err)
	}
	if err = p.writeOver(); err != nil {
		t.Fatal(err)
	}
	if err = p.Discard(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(place); err != nil || string(got) != "new" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v are left", entries, err)
	}
}

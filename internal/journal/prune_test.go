package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/journal"
)

// aged puts files into a new folder, each last written so many days ago.
func aged(t *testing.T, now time.Time, days map[string]int) string {
	t.Helper()
	dir := t.TempDir()
	for name, age := range days {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, header().Append(nil), 0o600); err != nil {
			t.Fatal(err)
		}
		when := now.AddDate(0, 0, -age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestPrune(t *testing.T) {
	const (
		a = "20260901T000000Z-aaaaaa.ndjson"
		b = "20261001T000000Z-bbbbbb.ndjson"
		c = "20261101T000000Z-cccccc.ndjson"
		d = "20261201T000000Z-dddddd.ndjson"
	)
	const day = 24 * time.Hour
	now := time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC)
	all := map[string]int{a: 3, b: 62, c: 31, d: 1} // a was resumed three days ago
	tests := []struct {
		name   string
		keep   int
		maxAge time.Duration
		left   []string
	}{
		{"no bounds", 0, 0, []string{a, b, c, d}},
		{"by count", 2, 0, []string{c, d}},
		{"by count, more than there are", 9, 0, []string{a, b, c, d}},
		{"by age", 0, 30 * day, []string{a, d}},
		{"by age, to the instant", 0, 31 * day, []string{a, c, d}},
		{"by both", 3, 30 * day, []string{d}},
		{"all by age", 0, time.Hour, nil},
	}
	for _, tt := range tests {
		dir := aged(t, now, all)
		removed, err := journal.Prune(dir, tt.keep, tt.maxAge, now)
		if err != nil {
			t.Errorf("%s: Prune: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.left, names(t, dir)); diff != "" {
			t.Errorf("%s: left (-want +got):\n%s", tt.name, diff)
		}
		if len(removed) != len(all)-len(tt.left) {
			t.Errorf("%s: Prune says that it removed %q", tt.name, removed)
		}
		for _, path := range removed {
			if filepath.Dir(path) != dir || slices.Contains(tt.left, filepath.Base(path)) {
				t.Errorf("%s: Prune says that it removed %q", tt.name, path)
			}
		}
	}
}

// TestPruneKnowsItsFiles by name and kind, and leaves all others alone.
func TestPruneKnowsItsFiles(t *testing.T) {
	now := time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC)
	files := map[string]int{
		"20260901T000000Z-aaaaaa.ndjson": 90, // the only one to go
		"lock":                           90, "report.json": 90, "my.ndjson": 90, ".ndjson": 90,
		"20260901T000000Z-aaaaaa.ndjson.bak": 90, "x20260901T000000Z-aaaaaa.ndjson": 90,
		"20260901T000000Z-AAAAAA.ndjson": 90, "20260901T000000Z-aaaaa.ndjson": 90, "20260901T000000Z-aaaaaaxndjson": 90,
	}
	dir := aged(t, now, files)
	folder := filepath.Join(dir, "20260902T000000Z-aaaaaa.ndjson")
	link := filepath.Join(dir, "20260903T000000Z-aaaaaa.ndjson")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Symlink("report.json", link)); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	removed, err := journal.Prune(dir, 0, time.Hour, now)
	if want := []string{filepath.Join(dir, "20260901T000000Z-aaaaaa.ndjson")}; err != nil || !cmp.Equal(want, removed) {
		t.Errorf("Prune = %q, %v, want %q", removed, err, want)
	}
	if got := names(t, dir); len(got) != len(before)-1 {
		t.Errorf("Prune left %q of %q, want one less", got, before)
	}
}

// TestPruneLeavesWhatIsInUse, however old it is: a run may take months.
func TestPruneLeavesWhatIsInUse(t *testing.T) {
	now := time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC)
	const used, old = "20260901T000000Z-aaaaaa.ndjson", "20260801T000000Z-aaaaaa.ndjson"
	dir := aged(t, now, map[string]int{used: 90, old: 120})
	path := filepath.Join(dir, used)
	w, err := journal.Open(path, journal.Batch, func(journal.Position, journal.Record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Prune(dir, 0, time.Hour, now); err != nil {
		t.Errorf("Prune: %v", err)
	}
	if diff := cmp.Diff([]string{used}, names(t, dir)); diff != "" {
		t.Errorf("left while one is in use (-want +got):\n%s", diff)
	}
	if err := errors.Join(commit(w, mark("a")), w.Close()); err != nil {
		t.Fatal(err)
	}
	// It was written to just now, by the clock of the machine.
	if removed, err := journal.Prune(dir, 0, time.Hour, time.Now()); err != nil || len(removed) > 0 {
		t.Errorf("Prune removed %q, %v, want what was just written to be kept", removed, err)
	}
	if removed, err := journal.Prune(dir, 0, time.Hour, time.Now().Add(2*time.Hour)); err != nil || len(removed) != 1 {
		t.Errorf("Prune removed %q, %v, want the journal that nobody uses any more", removed, err)
	}
}

// TestPruneLooksAgain: a journal may be resumed and closed between the look at
// its age and the lock.
func TestPruneLooksAgain(t *testing.T) {
	path := journalFile(t, header().Append(nil))
	looks := 0
	removed, err := journal.PruneOne(path, func(os.FileInfo) bool {
		looks++
		return looks == 1
	})
	if _, gone := os.Stat(path); removed || err != nil || gone != nil || looks != 2 {
		t.Errorf("pruning what is old no more = %v, %v after %d looks, file: %v, want it kept after 2", removed, err, looks, gone)
	}
}

func TestPruneErrors(t *testing.T) {
	if _, err := journal.Prune(filepath.Join(t.TempDir(), "none"), 1, 0, time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Prune of no folder = %v, want ErrNotExist", err)
	}
}

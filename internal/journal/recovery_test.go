package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/journal"
)

// TestCutAtEveryByte: whatever is left of a journal after a kill, its whole
// lines are read, the rest is cut off, and it goes on from there.
func TestCutAtEveryByte(t *testing.T) {
	records := story()
	text := bytes.Join(lines(records), nil)
	more := journal.Mark{Event: journal.EventResumed, At: at(9), Detail: "after the cut"}
	path := filepath.Join(t.TempDir(), "run.ndjson")
	for cut := range len(text) + 1 {
		kept := bytes.Count(text[:cut], []byte{'\n'})
		whole := bytes.LastIndexByte(text[:cut], '\n') + 1
		got, end, err := replay(text[:cut])
		if err != nil || int(end) != whole || !cmp.Equal(records[:kept], got, sameWhenEmpty()) {
			t.Fatalf("cut at byte %d: Replay = %d records up to byte %d, %v, want %d up to byte %d", cut, len(got), end, err, kept, whole)
		}
		if err = os.WriteFile(path, text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := journal.Open(path, journal.Always, func(journal.Position, journal.Record) error { return nil })
		if kept == 0 {
			if !errors.Is(err, journal.ErrEmpty) {
				t.Fatalf("cut at byte %d: Open = %v, want ErrEmpty", cut, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut at byte %d: Open: %v", cut, err)
		}
		p, err := w.Append(more.Append(nil))
		if err != nil || int(p) != whole {
			t.Fatalf("cut at byte %d: Append = %d, %v, want %d", cut, p, err, whole)
		}
		if err := w.Close(); err != nil {
			t.Fatalf("cut at byte %d: Close: %v", cut, err)
		}
		if got, want := readFile(t, path), append(bytes.Clone(text[:whole]), more.Append(nil)...); !bytes.Equal(got, want) {
			t.Fatalf("cut at byte %d: the file then holds %q, want %q", cut, got, want)
		}
	}
}

func sameWhenEmpty() cmp.Option {
	return cmp.FilterValues(func(a, b []journal.Record) bool { return len(a) == 0 && len(b) == 0 },
		cmp.Comparer(func(_, _ []journal.Record) bool { return true }))
}

// TestGarbleEveryByte: a byte that is not what it was makes its line worthless.
// With whole lines behind it that is damage, at the end it is a torn tail; in
// no case is anything read that was not written.
func TestGarbleEveryByte(t *testing.T) {
	all := lines(story())
	text := bytes.Join(all, nil)
	line, start := 0, 0
	for i := range text {
		if i == start+len(all[line]) {
			start += len(all[line])
			line++
		}
		next := line + 1 // the first line that is not touched
		if text[i] == '\n' {
			next++ // its line runs into the one behind it
		}
		for _, c := range []byte{0, '\n', '"', '{', ' ', text[i] ^ 1, text[i] ^ 2, text[i] ^ 4, text[i] ^ 8, text[i] ^ 16, text[i] ^ 32, text[i] ^ 64, text[i] ^ 128} {
			if c == text[i] {
				continue
			}
			garbled := bytes.Clone(text)
			garbled[i] = c
			got := make([]byte, 0, len(text))
			end, err := journal.Replay(bytes.NewReader(garbled), func(_ journal.Position, rec journal.Record) error {
				got = rec.Append(got)
				return nil
			})
			if !bytes.Equal(got, text[:start]) || int(end) != start {
				t.Fatalf("byte %d of line %d as %q: Replay = %s up to byte %d, want %s up to byte %d", i, line+1, c, got, end, text[:start], start)
			}
			var want error
			if next < len(all) {
				want = &journal.DamageError{Line: line + 1, Offset: int64(start)}
			}
			if diff := cmp.Diff(want, err); diff != "" {
				t.Fatalf("byte %d of line %d as %q: the error of Replay (-want +got):\n%s", i, line+1, c, diff)
			}
		}
	}
}

func TestCorruptions(t *testing.T) {
	records := story()
	all := lines(records)
	text := bytes.Join(all, nil)
	first := len(all[0])
	second := first + len(all[1])
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	zeros := func(n int) []byte { return make([]byte, n) }
	tests := []struct {
		name    string
		text    []byte
		kept    int    // records
		message string // of the error; empty if there is none
	}{
		{"whole", text, len(all), ""},
		{"nothing", nil, 0, ""},
		{"a line torn in the middle", join(text[:first+9], text[second:]), 1, fmt.Sprintf("line 2 (byte %d) is damaged, and whole lines follow it", first)},
		{"a hole of zeros in the middle", join(text[:first+9], zeros(300), text[first+309:]), 1, fmt.Sprintf("line 2 (byte %d) is damaged", first)},
		{"a page of zeros between lines", join(text[:second], zeros(4096), text[second:]), 2, fmt.Sprintf("line 3 (byte %d)", second)},
		{"a zero-filled tail", join(text, zeros(4096)), len(all), ""},
		{"a long zero-filled tail", join(text, zeros(3*journal.MaxLine)), len(all), ""},
		{"a torn line and zeros", join(text[:second+20], zeros(4096)), 2, ""},
		{"a tail of several broken lines", join(text, []byte("{\n}\n\n{}\n")), len(all), ""},
		{"an empty line", join(text[:second], []byte{'\n'}, text[second:]), 2, fmt.Sprintf("line 3 (byte %d)", second)},
		{"a first line only, without its newline", text[:first-1], 0, ""},
		{"a last line without its newline", text[:len(text)-1], len(all) - 1, ""},
		{"a longest line", join(text, longLine(journal.MaxLine)), len(all) + 1, ""},
		{"a line too long at the end", join(text, longLine(journal.MaxLine+1)), len(all), ""},
		{"a line too long in the middle", join(all[0], longLine(journal.MaxLine+1), text[first:]), 1, fmt.Sprintf("line 2 (byte %d)", first)},
		{"a much too long line in the middle", join(all[0], longLine(3*journal.MaxLine), text[first:]), 1, fmt.Sprintf("line 2 (byte %d)", first)},
		{"no header", text[first:], 0, "line 1: a journal begins with one run line and has no other"},
		{"two headers", join(all[0], all[0], all[1]), 1, "line 2: a journal begins with one run line and has no other"},
		{"a header at the end", join(text, all[0]), len(all), "line 11: a journal begins with one run line and has no other"},
		{"carriage returns", bytes.ReplaceAll(text, []byte{'\n'}, []byte("\r\n")), 0, ""},
		{"two lines as one", join(all[0][:first-1], all[1], all[2]), 0, "line 1 (byte 0) is damaged"},
	}
	for _, tt := range tests {
		got, _, err := replay(tt.text)
		want := append(slices.Clone(records), journal.Record(longMark(journal.MaxLine)))[:tt.kept]
		if !cmp.Equal(want, got, sameWhenEmpty()) {
			t.Errorf("%s: Replay = %d records, want %d as they were written", tt.name, len(got), tt.kept)
		}
		switch {
		case tt.message == "" && err != nil:
			t.Errorf("%s: Replay: %v", tt.name, err)
		case tt.message != "" && (err == nil || !strings.Contains(err.Error(), tt.message)):
			t.Errorf("%s: Replay: %v, want %s", tt.name, err, tt.message)
		}
	}
}

// longMark is a record whose line has size bytes.
func longMark(size int) journal.Mark {
	empty := len(journal.Mark{Event: journal.EventResumed, At: at(1), Detail: "x"}.Append(nil)) - 1
	return journal.Mark{Event: journal.EventResumed, At: at(1), Detail: strings.Repeat("x", size-empty)}
}

func longLine(size int) []byte { return longMark(size).Append(nil) }

func TestReplayPassesErrorsOn(t *testing.T) {
	text := bytes.Join(lines(story()), nil)
	_, err := journal.Replay(iotest.ErrReader(errDisk), nil)
	if !errors.Is(err, errDisk) {
		t.Errorf("Replay of a reader that fails = %v, want its error", err)
	}
	seen := 0
	end, err := journal.Replay(bytes.NewReader(text), func(journal.Position, journal.Record) error {
		if seen++; seen == 3 {
			return errDisk
		}
		return nil
	})
	want := len(bytes.Join(lines(story())[:2], nil))
	if !errors.Is(err, errDisk) || int(end) != want || seen != 3 {
		t.Errorf("Replay with a visit that fails = %d, %v after %d records, want %d, its error, 3", end, err, seen, want)
	}
}

// TestReplayInPieces: what the reader hands out at once does not matter.
func TestReplayInPieces(t *testing.T) {
	text := append(bytes.Join(lines(story()), nil), longLine(1<<20)...)
	var got []journal.Record
	end, err := journal.Replay(iotest.HalfReader(iotest.DataErrReader(bytes.NewReader(text))), func(_ journal.Position, rec journal.Record) error {
		got = append(got, keep(rec))
		return nil
	})
	if err != nil || int(end) != len(text) {
		t.Errorf("Replay = %d, %v, want %d", end, err, len(text))
	}
	if diff := cmp.Diff(append(story(), journal.Record(longMark(1<<20))), got); diff != "" {
		t.Errorf("Replay (-want +got):\n%s", diff)
	}
}

// TestFuture: the fixtures are of versions that do not exist yet.
func TestFuture(t *testing.T) {
	tests := []struct{ file, message string }{
		{"future-format.ndjson", "line 1: written by a later version of runner: format 2, this program reads 1"},
		{"future-kind.ndjson", `line 3: written by a later version of runner: a line of kind "lease"`},
		{"future-field.ndjson", "line 2: written by a later version of runner: a result line unlike those that this program writes"},
	}
	for _, tt := range tests {
		text := readFile(t, filepath.Join("testdata", tt.file))
		path := journalFile(t, append(text, "torn"...))
		_, err := journal.Open(path, journal.Batch, func(journal.Position, journal.Record) error { return nil })
		if !errors.Is(err, journal.ErrVersion) || !strings.Contains(err.Error(), tt.message) {
			t.Errorf("Open(%s) = %v, want %s", tt.file, err, tt.message)
		}
		if got := readFile(t, path); string(got) != string(text)+"torn" {
			t.Errorf("Open(%s) changed the file, which a later version can read", tt.file)
		}
	}
}

func TestOpenLeavesOtherFilesAlone(t *testing.T) {
	head := story()[0].Append(nil)
	ordinary := journal.ErrNotJournal
	tests := []struct {
		name, text string
		want       error
	}{
		{"empty", "", journal.ErrEmpty},
		{"torn first line", string(head[:40]), journal.ErrEmpty},
		{"first line without its newline", string(head[:len(head)-1]), journal.ErrEmpty},
		{"one byte", "{", journal.ErrEmpty},
		{"zeros", strings.Repeat("\x00", 4096), journal.ErrEmpty},
		{"torn first line and zeros", string(head[:40]) + strings.Repeat("\x00", 4096), journal.ErrEmpty},
		{"garbled first line only", strings.Replace(string(head), "lock", "lick", 1), ordinary},
		{"a plan", "version: 1\nname: lock\n", ordinary},
		{"a plan of one line", "version: 1", ordinary},
		{"a report", `{"schema":"runner/report/v1"}`, ordinary},
		{"a newline", "\n", ordinary},
		{"zeros and more", "\x00{", ordinary},
		{"a large file", strings.Repeat("\x00", journal.MaxLine+1), ordinary},
	}
	for _, tt := range tests {
		path := journalFile(t, []byte(tt.text))
		_, err := journal.Open(path, journal.Batch, func(journal.Position, journal.Record) error {
			t.Errorf("%s: Open read a record", tt.name)
			return nil
		})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Open = %v, want %v", tt.name, err, tt.want)
		}
		if got := readFile(t, path); string(got) != tt.text {
			t.Errorf("%s: Open changed the file", tt.name)
		}
		w, err := journal.Create(path, header(), journal.Off)
		if errors.Is(tt.want, ordinary) {
			if !errors.Is(err, os.ErrExist) || string(readFile(t, path)) != tt.text {
				t.Errorf("%s: Create = %v, want ErrExist and the file as it was", tt.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: Create: %v", tt.name, err)
			continue
		}
		if err := w.Close(); err != nil || !bytes.Equal(readFile(t, path), head) {
			t.Errorf("%s: after Create the file holds %q, %v", tt.name, readFile(t, path), err)
		}
	}
}

func TestOpenAndCreateRefuse(t *testing.T) {
	dir := t.TempDir()
	none := func(journal.Position, journal.Record) error { return nil }
	if _, err := journal.Open(filepath.Join(dir, "none"), journal.Batch, none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of no file = %v, want ErrNotExist", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("Open of no file made one")
	}
	if _, err := journal.Create(filepath.Join(dir, "no", "folder"), header(), journal.Batch); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Create in no folder = %v, want ErrNotExist", err)
	}
	if _, err := journal.Create(os.DevNull, header(), journal.Batch); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("Create of a device = %v, want it refused", err)
	}
	whole := journalFile(t, bytes.Join(lines(story()), nil))
	if _, err := journal.Create(whole, header(), journal.Batch); !errors.Is(err, os.ErrExist) {
		t.Errorf("Create of a journal that is there = %v, want ErrExist", err)
	}
	damaged := journalFile(t, append([]byte("x"), bytes.Join(lines(story()), nil)...))
	_, err := journal.Open(damaged, journal.Batch, none)
	want := fmt.Sprintf("open journal %q: line 1 (byte 0) is damaged, and whole lines follow it", damaged)
	if err == nil || err.Error() != want {
		t.Errorf("Open of a damaged journal = %v, want %s", err, want)
	}
}

// TestClaimSeesReplacement: who locks a file that was replaced since it was
// opened holds a lock that means nothing.
func TestClaimSeesReplacement(t *testing.T) {
	path := journalFile(t, nil)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(journalFile(t, nil), path); err != nil {
		t.Fatal(err)
	}
	if err := journal.Claim(f); !errors.Is(err, journal.ErrReplaced()) {
		t.Errorf("claim of a file that was replaced = %v, want it refused", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := journal.Claim(f); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("claim of a file that was removed = %v, want ErrNotExist", err)
	}
}

package journal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"iothub-runner/internal/journal"
)

// results returns a journal of n results, each after its intent, and where the
// results begin. Every bigOnes-th row is larger than the window of a RowReader.
func results(n, bigOnes int) (text []byte, where []journal.Position, rows []string) {
	text = header().Append(nil)
	for i := range n {
		target := journal.Target{Device: fmt.Sprintf("door-%07d", i)}
		text = journal.Intent{Job: "lock", Target: target, Attempt: 1, At: at(i)}.Append(text)
		row := fmt.Sprintf(`{"deviceId":%q,"outcome":"succeeded","startedAt":"2026-11-22T23:15:00.000Z","attempts":1}`, target.Device)
		if bigOnes > 0 && i%bigOnes == bigOnes-1 {
			row = fmt.Sprintf(`{"deviceId":%q,"payload":%q}`, target.Device, strings.Repeat("x", journal.RowWindow))
		}
		where = append(where, journal.Position(len(text)))
		rows = append(rows, row)
		text = journal.Result{Job: "lock", Target: target, Row: json.RawMessage(row)}.Append(text)
	}
	return text, where, rows
}

// counting counts reads and what they ask for.
type counting struct {
	io.ReaderAt
	calls, bytes int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.calls++
	c.bytes += len(p)
	return c.ReaderAt.ReadAt(p, off)
}

// orders are the ways in which a report may go through a journal.
func orders(n int) map[string][]int {
	rising := make([]int, n)
	for i := range rising {
		rising[i] = i
	}
	random := rand.New(rand.NewPCG(1, 2))
	jitter := slices.Clone(rising) // 64 devices at once, which end in any order
	for part := range slices.Chunk(jitter, 64) {
		random.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	stragglers := slices.Clone(rising) // one in a hundred ends much later
	for i := 0; i < n/2; i += 100 {
		stragglers[i], stragglers[n-1-i] = stragglers[n-1-i], stragglers[i]
	}
	any := slices.Clone(rising)
	random.Shuffle(n, func(i, j int) { any[i], any[j] = any[j], any[i] })
	falling := slices.Clone(rising)
	slices.Reverse(falling)
	half := append(slices.Clone(rising[n/2:]), rising[:n/2]...)
	return map[string][]int{"rising": rising, "jitter": jitter, "stragglers": stragglers, "any": any, "falling": falling, "half": half}
}

// TestRowReader: every order gives the rows; those that mostly ascend cost a
// read for many rows, the others at most one or two each.
func TestRowReader(t *testing.T) {
	const n = 20_000
	text, where, rows := results(n, 0)
	few := 3*len(text)/(2*journal.RowWindow) + 2 // a window moves by three quarters of itself
	most := map[string]int{
		"rising": few, "jitter": few + 1, "stragglers": few + n/100 + 2, "any": 2 * n, "falling": 5 * few, "half": few + 3,
	}
	for name, order := range orders(n) {
		file := &counting{ReaderAt: bytes.NewReader(text)}
		rr := journal.NewRowReader(file)
		for _, i := range order {
			row, err := rr.Row(where[i])
			if err != nil || string(row) != rows[i] {
				t.Fatalf("%s: Row(%d) = %s, %v, want %s", name, where[i], row, err, rows[i])
			}
		}
		if file.calls > most[name] {
			t.Errorf("%s: %d rows took %d reads, want at most %d", name, n, file.calls, most[name])
		}
	}
}

// TestRowReaderOfLargeRows: rows that no window holds come whole all the same.
func TestRowReaderOfLargeRows(t *testing.T) {
	text, where, rows := results(40, 3)
	for name, order := range orders(len(rows)) {
		rr := journal.NewRowReader(bytes.NewReader(text))
		for _, i := range order {
			if row, err := rr.Row(where[i]); err != nil || string(row) != rows[i] {
				t.Fatalf("%s: Row(%d) = %.60s, %v, want %.60s", name, where[i], row, err, rows[i])
			}
		}
	}
}

// growing is a journal that is written while it is read.
type growing struct{ text []byte }

func (g *growing) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(g.text).ReadAt(p, off)
}

func TestRowReaderWhileTheJournalGrows(t *testing.T) {
	text, where, rows := results(3000, 0)
	file := &growing{}
	rr := journal.NewRowReader(file)
	for i, p := range where {
		end := bytes.IndexByte(text[p:], '\n') + int(p) + 1
		file.text = text[:end]
		if row, err := rr.Row(p); err != nil || string(row) != rows[i] {
			t.Fatalf("Row(%d) of what was just written = %s, %v, want %s", p, row, err, rows[i])
		}
	}
}

func TestRowsRefuse(t *testing.T) {
	text, where, _ := results(3, 0)
	intent := journal.Position(len(header().Append(nil)))
	broken := bytes.Clone(text)
	broken[where[2]+60] ^= 1
	torn := text[:len(text)-1]
	endless := append(bytes.Clone(text[:where[2]]), make([]byte, journal.MaxLine+1)...)
	tests := []struct {
		name string
		text []byte
		at   journal.Position
	}{
		{"an intent", text, intent},
		{"the middle of a line", text, where[1] + 1},
		{"the end", text, journal.Position(len(text))},
		{"behind the end", text, journal.Position(len(text)) + 1e9},
		{"a broken line", broken, where[2]},
		{"a torn line", torn, where[2]},
		{"a line without an end", endless, where[2]},
	}
	for _, tt := range tests {
		rr := journal.NewRowReader(bytes.NewReader(tt.text))
		for range 2 { // the second time with a window
			if row, err := rr.Row(tt.at); err == nil {
				t.Errorf("Row of %s = %s, want an error", tt.name, row)
			}
			if _, err := rr.Row(where[0]); err != nil {
				t.Errorf("Row after one of %s: %v", tt.name, err)
			}
		}
		if row, _, err := journal.ReadRow(bytes.NewReader(tt.text), tt.at, nil); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("ReadRow of %s = %s, %v, want an error of one line", tt.name, row, err)
		}
	}
}

// TestReadRowGrowsItsBuffer, and hands it on.
func TestReadRowGrowsItsBuffer(t *testing.T) {
	text, where, rows := results(6, 3)
	var buf []byte
	for i, p := range where {
		row, grown, err := journal.ReadRow(bytes.NewReader(text), p, buf)
		if err != nil || string(row) != rows[i] {
			t.Errorf("ReadRow(%d) = %.60s, %v, want %.60s", p, row, err, rows[i])
		}
		if len(grown) < len(buf) {
			t.Errorf("ReadRow gave back %d of %d bytes", len(grown), len(buf))
		}
		buf = grown
	}
	longest := journal.Result{Row: json.RawMessage(`""`)}.Append(nil)
	row := `"` + strings.Repeat("x", journal.MaxLine-len(longest)) + `"`
	line := journal.Result{Row: json.RawMessage(row)}.Append(nil)
	got, _, err := journal.ReadRow(bytes.NewReader(line), 0, nil)
	if err != nil || string(got) != row || len(line) != journal.MaxLine {
		t.Errorf("ReadRow of a line of %d bytes = %d bytes, %v, want %d", len(line), len(got), err, len(row))
	}
}

func TestReadIntent(t *testing.T) {
	records := story()
	text := bytes.Join(lines(records), nil)
	at := 0
	for i, line := range lines(records) {
		want, intended := records[i].(journal.Intent)
		got, err := journal.ReadIntent(bytes.NewReader(text), journal.Position(at))
		if (err == nil) != intended || !bytes.Equal(got.Append(nil), want.Append(nil)) {
			t.Errorf("ReadIntent of line %d = %#v, %v, want %#v", i+1, got, err, want)
		}
		at += len(line)
	}
}

func TestRow(t *testing.T) {
	const row = `{"deviceId":"a","x":",\"row\":1"}`
	line := journal.Result{Job: `,"row":`, Target: journal.Target{Device: `,"row":`, Module: `"`}, Row: json.RawMessage(row)}.Append(nil)
	if got, ok := journal.Row(line); !ok || string(got) != row {
		t.Errorf("Row(%s) = %s, %v, want %s", line, got, ok, row)
	}
	holdsRow := journal.Intent{Before: json.RawMessage(`{"a":1,"row":{}}`)}
	for _, rec := range append(story(), holdsRow) {
		_, isResult := rec.(journal.Result)
		if got, ok := journal.Row(rec.Append(nil)); ok != isResult {
			t.Errorf("Row of a %T = %s, %v, want %v", rec, got, ok, isResult)
		}
	}
}

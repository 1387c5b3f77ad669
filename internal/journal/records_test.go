package journal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"iothub-runner/internal/journal"
)

func at(micros int) time.Time {
	return time.Date(2026, 11, 22, 23, 15, 0, 1000*micros, time.UTC)
}

func header() journal.Header {
	return journal.Header{
		Run: "20261122T231500Z-3f2a9c", Plan: "lock-building-43", File: "plans/lock.yaml", SHA256: "9f86d081",
		Hubs: []string{"contoso.azure-devices.net", "localhost:8443"}, Runner: "0.1.0", StartedAt: at(0),
		Jobs: map[string]string{"move": "d131dd02", "lock": "c5e6eec4"}, Vars: map[string]string{"building": "43"},
		Files: map[string]string{"doors.txt": "0e99be55"}, Pinned: "ad340609",
	}
}

// story is a journal's worth of records, every kind and every field.
func story() []journal.Record {
	door := journal.Target{Device: "door-1"}
	module := journal.Target{Hub: 1, Device: "gateway", Module: "edge"}
	return []journal.Record{
		header(),
		journal.Mark{Job: "move", Event: journal.EventStarted, At: at(1)},
		journal.Targets{Job: "move", Targets: []journal.Target{door, {Device: "door-2"}, module}},
		journal.Mark{Job: "move", Event: journal.EventListed, At: at(2), Detail: `3 "targets"`},
		journal.Intent{
			Job: "move", Target: door, Attempt: 1, At: at(3), ETag: "AAAAAAAAAAE=", Version: 7,
			Before: json.RawMessage(`{"desired":{"patch":"},{","floor":2}}`), Patch: json.RawMessage(`{"desired":{"floor":3}}`),
		},
		journal.Result{Job: "move", Target: door, Row: json.RawMessage(`{"deviceId":"door-1","outcome":"succeeded"}`)},
		journal.Intent{Job: "lock", Target: module, Attempt: 12, At: at(4)},
		journal.Mark{Event: journal.EventResumed, At: at(5)},
		journal.Result{Job: "lock", Target: module, Row: json.RawMessage(`{"deviceId":"gateway","moduleId":"edge","outcome":"offline"}`)},
		journal.Mark{Job: "lock", Event: journal.EventEnded, At: at(6), Detail: "failed"},
	}
}

// lines returns the line of each record.
func lines(records []journal.Record) [][]byte {
	all := make([][]byte, len(records))
	for i, rec := range records {
		all[i] = rec.Append(nil)
	}
	return all
}

// sealed makes a line of an object's text, its closing brace left out. It does
// not share the code under test.
func sealed(body string) []byte {
	sum := crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Appendf(nil, `%s,"crc":"%08x"}`+"\n", body, sum)
}

// replay reads a journal to its end. Raw JSON is copied, as it must be.
func replay(text []byte) (records []journal.Record, end journal.Position, err error) {
	end, err = journal.Replay(bytes.NewReader(text), func(at journal.Position, rec journal.Record) error {
		records = append(records, keep(rec))
		if line := rec.Append(nil); !bytes.HasPrefix(text[at:], line) {
			return fmt.Errorf("the record said to begin at byte %d is not there: %s", at, line)
		}
		return nil
	})
	return records, end, err
}

func keep(rec journal.Record) journal.Record {
	switch r := rec.(type) {
	case journal.Intent:
		r.Before, r.Patch = bytes.Clone(r.Before), bytes.Clone(r.Patch)
		return r
	case journal.Result:
		r.Row = bytes.Clone(r.Row)
		return r
	default:
		return rec
	}
}

// journalFile writes a journal file by hand.
func journalFile(tb testing.TB, text []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "run.ndjson")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

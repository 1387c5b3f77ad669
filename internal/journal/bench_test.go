package journal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"iothub-runner/internal/journal"
)

// million is the size of fleet that a run must be able to resume.
const million = 1_000_000

// BenchmarkReplay reads a journal of a million lines, half intents and half
// results, from a file. The bound is 3 s for all of them.
func BenchmarkReplay(b *testing.B) {
	text, _, _ := results(million/2, 0)
	path := journalFile(b, text)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		seen := 0
		w, err := journal.Open(path, journal.Off, func(journal.Position, journal.Record) error {
			seen++
			return nil
		})
		if err != nil || seen != million+1 {
			b.Fatalf("Open read %d lines, %v, want %d", seen, err, million+1)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/line")
}

// BenchmarkRows reads a million rows as a report does, in several orders.
func BenchmarkRows(b *testing.B) {
	text, where, _ := results(million, 0)
	path := journalFile(b, text)
	w, err := journal.Open(path, journal.Off, func(journal.Position, journal.Record) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	all := orders(million)
	for _, name := range []string{"rising", "jitter", "stragglers", "any"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				rr := journal.NewRowReader(w)
				for _, i := range all[name] {
					if _, err := rr.Row(where[i]); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/row")
		})
	}
	b.Run("rising by ReadRow", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			for _, p := range where {
				var err error
				if _, buf, err = journal.ReadRow(w, p, buf); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/row")
	})
}

// BenchmarkAppend is what a device costs: an intent that is acknowledged, and
// a result.
func BenchmarkAppend(b *testing.B) {
	for _, d := range []journal.Durability{journal.Off, journal.Batch} {
		b.Run(fmt.Sprintf("durability %d", d), func(b *testing.B) {
			w, err := journal.Create(b.TempDir()+"/run.ndjson", header(), d)
			if err != nil {
				b.Fatal(err)
			}
			target := journal.Target{Device: "door-0000001"}
			row := json.RawMessage(`{"deviceId":"door-0000001","outcome":"succeeded","attempts":1,"method":{"status":200,"payload":null}}`)
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				var line []byte
				for pb.Next() {
					line = journal.Intent{Job: "lock", Target: target, Attempt: 1, At: at(1)}.Append(line[:0])
					p, err := w.Append(line)
					if err == nil {
						err = w.Commit(p)
					}
					line = journal.Result{Job: "lock", Target: target, Row: row}.Append(line[:0])
					if err == nil {
						_, err = w.Append(line)
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkDecode decodes single lines of each kind.
func BenchmarkDecode(b *testing.B) {
	for _, rec := range story() {
		line := bytes.TrimSuffix(rec.Append(nil), []byte{'\n'})
		b.Run(fmt.Sprintf("%T", rec), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := journal.Decode(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/journal"
)

func mark(detail string) journal.Mark {
	return journal.Mark{Event: journal.EventResumed, At: at(0), Detail: detail}
}

func everyDurability() []journal.Durability {
	return []journal.Durability{journal.Batch, journal.Always, journal.Off}
}

// TestCommitWaitsForWrite: a line that is not in the hands of the operating
// system is not acknowledged, in any mode.
func TestCommitWaitsForWrite(t *testing.T) {
	for _, d := range everyDurability() {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			file := &disk{write: func(p []byte) (int, error) { <-release; return len(p), nil }}
			w := journal.NewWriter(file, 0, d)
			done := pending(func() error { return commit(w, mark("a")) })
			flushed := pending(w.Flush)
			synctest.Wait()
			if over, err := returned(done); over {
				t.Errorf("durability %d: Commit = %v while the line is being written", d, err)
			}
			close(release)
			synctest.Wait()
			if over, err := returned(done); !over || err != nil {
				t.Errorf("durability %d: Commit has returned %v, %v after the write, want true, nil", d, over, err)
			}
			if over, err := returned(flushed); !over || err != nil {
				t.Errorf("durability %d: Flush has returned %v, %v after the write, want true, nil", d, over, err)
			}
			if err := w.Close(); err != nil {
				t.Errorf("durability %d: Close: %v", d, err)
			}
		})
	}
}

// TestCommitWaitsForSync does so with Always, and only then.
func TestCommitWaitsForSync(t *testing.T) {
	for _, d := range everyDurability() {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			file := &disk{sync: func() error { <-release; return nil }}
			w := journal.NewWriter(file, 0, d)
			done := pending(func() error { return commit(w, mark("a")) })
			synctest.Wait()
			if over, err := returned(done); over == (d == journal.Always) || err != nil {
				t.Errorf("durability %d: Commit has returned %v, %v during the sync, want %v, nil", d, over, err, d != journal.Always)
			}
			close(release)
			synctest.Wait()
			if over, err := returned(done); over != (d == journal.Always) || err != nil {
				t.Errorf("durability %d: Commit has returned %v, %v after the sync", d, over, err)
			}
			if err := w.Close(); err != nil {
				t.Errorf("durability %d: Close: %v", d, err)
			}
		})
	}
}

// TestGroupCommit: lines that wait together share a sync.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const committers, each, syncTime = 64, 10, 5 * time.Millisecond
		file := &disk{sync: func() error { time.Sleep(syncTime); return nil }} // on the bubble's clock
		w := journal.NewWriter(file, 0, journal.Always)
		began := time.Now()
		var all sync.WaitGroup
		for c := range committers {
			all.Go(func() {
				for n := range each {
					rec := mark(fmt.Sprintf("%d.%d", c, n))
					if err := commit(w, rec); err != nil {
						t.Errorf("Commit: %v", err)
					}
					if text, synced, _ := file.state(); !bytes.Contains(text[:synced], rec.Append(nil)) {
						t.Errorf("%s was acknowledged before it was synced", rec.Detail)
					}
				}
			})
		}
		all.Wait()
		// The first sync may hold any part of the first round. The rest of it
		// waits, and from then on the two parts take turns.
		if _, _, syncs := file.state(); syncs < each || syncs > 2*each+1 {
			t.Errorf("%d lines of %d committers took %d syncs, want %d to %d", committers*each, committers, syncs, each, 2*each+1)
		}
		if took := time.Since(began); took > (2*each+1)*syncTime {
			t.Errorf("it took %v, want at most %v", took, (2*each+1)*syncTime)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestConcurrentAppends: lines stay whole, are where Append says, and those of
// one goroutine stay in order.
func TestConcurrentAppends(t *testing.T) {
	for _, d := range everyDurability() {
		path := t.TempDir() + "/run.ndjson"
		w, err := journal.Create(path, header(), d)
		if err != nil {
			t.Fatal(err)
		}
		const writers, each = 16, 300
		where := make([][]journal.Position, writers)
		var all sync.WaitGroup
		for n := range writers {
			all.Go(func() {
				for i := range each {
					line := journal.Result{Job: strconv.Itoa(n), Target: journal.Target{Device: strconv.Itoa(i)}}.Append(nil)
					p, failure := w.Append(line)
					if failure == nil && i%50 == 0 {
						failure = holds(w, p, line)
					}
					if failure != nil {
						t.Errorf("line %d of writer %d: %v", i, n, failure)
					}
					where[n] = append(where[n], p)
				}
			})
		}
		all.Wait()
		if err = w.Close(); err != nil {
			t.Fatal(err)
		}
		next := make([]int, writers)
		_, err = journal.Replay(bytes.NewReader(readFile(t, path)), func(at journal.Position, rec journal.Record) error {
			r, ok := rec.(journal.Result)
			if !ok {
				return nil
			}
			n, _ := strconv.Atoi(r.Job)
			if want := strconv.Itoa(next[n]); r.Target.Device != want || at != where[n][next[n]] {
				return fmt.Errorf("writer %d: line %s at %d, want %s at %d", n, r.Target.Device, at, want, where[n][next[n]])
			}
			next[n]++
			return nil
		})
		if err != nil {
			t.Errorf("durability %d: %v", d, err)
		}
		for n, i := range next {
			if i != each {
				t.Errorf("durability %d: writer %d has %d lines, want %d", d, n, i, each)
			}
		}
	}
}

// holds waits until the line at p is acknowledged and reads it back.
func holds(w *journal.Writer, p journal.Position, line []byte) error {
	if err := w.Commit(p); err != nil {
		return err
	}
	got := make([]byte, len(line))
	if _, err := w.ReadAt(got, int64(p)); err != nil || !bytes.Equal(got, line) {
		return fmt.Errorf("at %d, which is acknowledged, the file holds %q, %w, want %q", p, got, err, line)
	}
	return nil
}

// TestBackPressure: a disk that is too slow makes Append wait, so that memory
// is bounded; a write, an error or Close ends the wait.
func TestBackPressure(t *testing.T) {
	ends := []struct {
		name string
		end  func(w *journal.Writer, release chan<- error)
		want error
	}{
		{"the disk goes on", func(_ *journal.Writer, release chan<- error) { release <- nil }, nil},
		{"the disk fails", func(_ *journal.Writer, release chan<- error) { release <- errDisk }, errDisk},
		{"the writer is closed", func(w *journal.Writer, _ chan<- error) {
			pending(w.Close) // waits for the disk, Append does not
		}, os.ErrClosed},
	}
	for _, tt := range ends {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan error)
			file := &disk{write: func(p []byte) (int, error) { return len(p), <-release }}
			w := journal.NewWriter(file, 0, journal.Off)
			half := journal.Mark{Detail: strings.Repeat("x", journal.MaxPending/2-100)}.Append(nil)
			for range 3 { // one is being written, two are pending
				if _, err := w.Append(half); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			done := pending(func() error { _, err := w.Append(half); return err })
			synctest.Wait()
			if over, err := returned(done); over {
				t.Errorf("%s: Append = %v with %d bytes pending, want it to wait", tt.name, err, journal.MaxPending)
			}
			tt.end(w, release)
			synctest.Wait()
			if over, err := returned(done); !over || !errors.Is(err, tt.want) {
				t.Errorf("%s: Append has returned %v, %v, want true, %v", tt.name, over, err, tt.want)
			}
			if !errors.Is(tt.want, errDisk) {
				close(release)
			}
			if err := w.Close(); !errors.Is(tt.want, os.ErrClosed) && !errors.Is(err, tt.want) {
				t.Errorf("%s: Close = %v, want %v", tt.name, err, tt.want)
			}
		})
	}
}

// TestOneLongLine: a line that alone is more than may be pending is taken.
func TestOneLongLine(t *testing.T) {
	file := &disk{}
	w := journal.NewWriter(file, 0, journal.Off)
	if err := commit(w, longMark(journal.MaxLine)); err != nil {
		t.Errorf("Append of a line of %d bytes: %v", journal.MaxLine, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestAppendRefusesWhatCannotBeReadBack(t *testing.T) {
	file := &disk{}
	w := journal.NewWriter(file, 0, journal.Off)
	for _, line := range []string{"", "{}", "{}\n{}\n", "\n\n", string(longLine(journal.MaxLine + 1))} {
		if _, err := w.Append([]byte(line)); err == nil {
			t.Errorf("Append(%.20q) of %d bytes: want it refused", line, len(line))
		}
	}
	if err := commit(w, mark("a")); err != nil {
		t.Errorf("Commit after lines that were refused: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if text, _, _ := file.state(); !bytes.Equal(text, mark("a").Append(nil)) {
		t.Errorf("the journal holds %q, want only what was taken", text)
	}
}

// TestCloseWritesWhatIsPending and syncs it, however much the disk is behind.
func TestCloseWritesWhatIsPending(t *testing.T) {
	for _, d := range everyDurability() {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			file := &disk{write: func(p []byte) (int, error) { <-release; return len(p), nil }}
			w := journal.NewWriter(file, 0, d)
			var want []byte
			for i := range 100 {
				line := mark(strconv.Itoa(i)).Append(nil)
				want = append(want, line...)
				if _, err := w.Append(line); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					synctest.Wait() // it alone is being written
				}
			}
			done := pending(w.Close)
			synctest.Wait()
			if over, err := returned(done); over {
				t.Errorf("durability %d: Close = %v before the lines are written", d, err)
			}
			if _, err := w.Append(mark("late").Append(nil)); !errors.Is(err, os.ErrClosed) {
				t.Errorf("durability %d: Append while closing = %v, want ErrClosed", d, err)
			}
			close(release)
			synctest.Wait()
			if over, err := returned(done); !over || err != nil {
				t.Errorf("durability %d: Close has returned %v, %v, want true, nil", d, over, err)
			}
			text, synced, _ := file.state()
			if !bytes.Equal(text, want) || synced != len(want) || !file.closed {
				t.Errorf("durability %d: after Close the file has %d bytes, %d synced, closed %v, want %d, all, true", d, len(text), synced, file.closed, len(want))
			}
			if err := w.Close(); err != nil {
				t.Errorf("durability %d: a second Close = %v, want nil", d, err)
			}
		})
	}
}

func TestNothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &disk{}
		w := journal.NewWriter(file, 0, journal.Batch)
		if err := w.Flush(); err != nil {
			t.Errorf("Flush of nothing: %v", err)
		}
		time.Sleep(time.Hour) // on the bubble's clock
		if _, _, syncs := file.state(); syncs != 0 {
			t.Errorf("%d syncs of nothing, want 0", syncs)
		}
		if err := errors.Join(w.Close(), w.Err()); err != nil {
			t.Error(err)
		}
	})
}

// TestBatchSyncs states to the millisecond when Batch syncs.
func TestBatchSyncs(t *testing.T) {
	ms := func(n ...int) (all []time.Duration) {
		for _, n := range n {
			all = append(all, time.Duration(n)*time.Millisecond)
		}
		return all
	}
	tests := []struct {
		name     string
		takes    int   // a sync, in milliseconds
		lines    []int // when each comes
		want     []int // when each sync begins; the last is that of Close
		closesAt int
	}{
		{"one line", 0, []int{0}, []int{0, 1000}, 1000},
		{"two at once share the next", 0, []int{0, 10, 20}, []int{0, 100, 1000}, 1000},
		{"after a rest at once", 0, []int{0, 10, 500}, []int{0, 100, 500, 1000}, 1000},
		{"a sync counts from its beginning", 30, []int{0, 10}, []int{0, 100, 1000}, 1000},
		{"a slow sync is followed at once", 250, []int{0, 10, 260}, []int{0, 250, 500, 1000}, 1000},
		{"a line during a sync is not in it", 30, []int{0, 29}, []int{0, 100, 1000}, 1000},
		{"Close does not wait for the interval", 0, []int{0, 10}, []int{0, 50}, 50},
		{"Close waits for a sync under way", 200, []int{0, 10}, []int{0, 200}, 50},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			file := &disk{sync: func() error { time.Sleep(time.Duration(tt.takes) * time.Millisecond); return nil }}
			w := journal.NewWriter(file, 0, journal.Batch)
			for _, n := range tt.lines {
				time.Sleep(time.Duration(n)*time.Millisecond - time.Since(start))
				if err := commit(w, mark("a")); err != nil {
					t.Fatal(err)
				}
				if got, want := time.Since(start), time.Duration(n)*time.Millisecond; got != want {
					t.Errorf("%s: the line of %v was acknowledged after %v, want at once", tt.name, want, got)
				}
			}
			time.Sleep(time.Duration(tt.closesAt)*time.Millisecond - time.Since(start))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ms(tt.want...), file.syncedAfter(start)); diff != "" {
				t.Errorf("%s: syncs began (-want +got):\n%s", tt.name, diff)
			}
		})
	}
}

// TestBatchBound: under a steady load no line waits longer for its sync than
// the documentation says, and there are no more syncs than it takes: one at the
// start of each interval, the first included, one for the last lines and that
// of Close.
func TestBatchBound(t *testing.T) {
	for _, takes := range []time.Duration{0, 40 * time.Millisecond, 130 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			file := &disk{sync: func() error { time.Sleep(takes); return nil }}
			w := journal.NewWriter(file, 0, journal.Batch)
			acked := make([]time.Time, 3000) // when each line was
			for i := range acked {
				if err := commit(w, mark("steady")); err != nil {
					t.Fatal(err)
				}
				acked[i] = time.Now()
				time.Sleep(time.Millisecond)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			bound := max(journal.SyncInterval, takes)
			size, next := len(mark("steady").Append(nil)), 0
			for i, at := range acked {
				for file.syncs[next].held < (i+1)*size {
					next++
				}
				if wait := file.syncs[next].at.Sub(at); wait > bound {
					t.Fatalf("a sync of %v: line %d waited %v for its sync to begin, want at most %v", takes, i, wait, bound)
				}
			}
			if got, most := len(file.syncs), int(3*time.Second/bound)+3; got > most || got < most-3 {
				t.Errorf("a sync of %v: %d syncs in 3 s and at Close, want at most %d", takes, got, most)
			}
		})
	}
}

// TestOffNeverSyncs before Close.
func TestOffNeverSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := &disk{}
		w := journal.NewWriter(file, 0, journal.Off)
		for range 100 {
			if err := commit(w, mark("a")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if _, _, syncs := file.state(); syncs != 0 {
			t.Errorf("%d syncs before Close, want 0", syncs)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if text, synced, syncs := file.state(); syncs != 1 || synced != len(text) {
			t.Errorf("%d syncs, %d of %d bytes synced after Close, want 1, all", syncs, synced, len(text))
		}
	})
}

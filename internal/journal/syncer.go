package journal

import (
	"fmt"
	"sync"
	"time"
)

// syncer syncs a journal in the background, so that writes go on meanwhile.
type syncer struct {
	w    *Writer
	wake chan struct{} // one pending request is enough for any number of lines
	quit chan struct{}
	done sync.WaitGroup
}

func newSyncer(w *Writer) *syncer {
	s := &syncer{w: w, wake: make(chan struct{}, 1), quit: make(chan struct{})}
	if w.durability == Batch {
		s.done.Go(s.loop)
	}
	return s
}

// dirty asks for a sync of what was written before. One that is under way does
// not count: it may have begun too early.
func (s *syncer) dirty() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// stop returns once no sync is under way and none will be. Close itself syncs
// what is left.
func (s *syncer) stop() {
	close(s.quit)
	s.done.Wait()
}

func (s *syncer) ended() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

func (s *syncer) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.wake:
		case <-s.quit:
		}
		if s.ended() { // whichever of the two was chosen: Close syncs what is left
			return
		}
		began := time.Now()
		if err := s.w.file.Sync(); err != nil {
			s.w.fail(fmt.Errorf("sync journal: %w", withAdvice(err)))
			return
		}
		// Counted from its beginning: a disk that takes long to sync must not
		// make more wait for the next one. Lines written meanwhile share that.
		timer.Reset(SyncInterval - time.Since(began))
		select {
		case <-timer.C:
		case <-s.quit:
			return
		}
	}
}

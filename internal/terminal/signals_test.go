//go:build unix

package terminal

import (
	"os"
	"testing"
)

// TestAwaitClosed closes the reading end of a pipe, and gives up on another
// that stays open.
func TestAwaitClosed(t *testing.T) {
	for _, closed := range []bool{true, false} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		quit := make(chan struct{})
		if closed {
			err = r.Close()
		} else {
			close(quit)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := awaitClosed(w, quit); got != closed {
			t.Errorf("awaitClosed = %t, want %t", got, closed)
		}
		_, _ = w.Close(), r.Close()
	}
}

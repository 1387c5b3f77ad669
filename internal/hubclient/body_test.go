package hubclient

import (
	"errors"
	"io"
	"testing"
)

// TestAbandonedBodyIsNotSent covers the instant that no test over a network
// hits at will: the writer comes around after the request was given up.
func TestAbandonedBodyIsNotSent(t *testing.T) {
	b := &sentBody{data: []byte("{}")}
	if b.abandon() {
		t.Fatal("abandon = maybe sent, though nobody had read the body")
	}
	if n, err := b.Read(make([]byte, 8)); n != 0 || !errors.Is(err, errAbandoned) {
		t.Errorf("Read = %d, %v, want %v", n, err, errAbandoned)
	}
}

func TestTakenBodyMayBeSent(t *testing.T) {
	b := &sentBody{data: []byte("{}")}
	if _, err := b.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if !b.abandon() {
		t.Error("abandon = not sent, though a byte of the body was taken")
	}
	if _, err := b.Read(make([]byte, 1)); err != nil {
		t.Errorf("Read of the rest: %v", err)
	}
}

// TestBodyStartsOver is the transport's second go on a fresh connection, which
// it takes only when nothing was written on the first.
func TestBodyStartsOver(t *testing.T) {
	b := &sentBody{data: []byte(`{"a":1}`)}
	if _, err := b.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	again, err := b.again()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(again); err != nil || string(got) != `{"a":1}` {
		t.Errorf("second reading = %q, %v, want the whole body", got, err)
	}
	if _, err := b.again(); err != nil || b.abandon() {
		t.Errorf("a body that starts over counts as sent: %v", err)
	}
}

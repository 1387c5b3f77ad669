package hubclient

import (
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"time"
)

// wire is what TLS runs on. It can be read without waiting, and it knows
// whether what was read ends with a whole TLS record: the part of one that waits
// in a connection at rest is the beginning of an answer that nobody asked for.
type wire struct {
	net.Conn
	probing bool // reads do not wait
	file    syscall.RawConn
	frame   frame
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c}
	if s, ok := c.(syscall.Conn); ok {
		w.file, _ = s.SyscallConn() // nil where there is none
	}
	return w
}

// Read reads what there is, and waits for it unless the wire is being probed.
func (w *wire) Read(p []byte) (n int, err error) {
	if w.probing {
		n, err = w.readNow(p)
	} else {
		n, err = w.Conn.Read(p)
	}
	w.frame.pass(p[:max(n, 0)])
	return n, err
}

// probeTime is how long a probe waits on a wire that cannot be read without.
const probeTime = 100 * time.Microsecond

// readNow reads without waiting; if there is nothing, its error is that of a
// deadline, which TLS takes for a passing one.
func (w *wire) readNow(p []byte) (int, error) {
	if w.file != nil && readsNow {
		return readFile(w.file, p)
	}
	if err := w.SetReadDeadline(time.Now().Add(probeTime)); err != nil {
		return 0, err
	}
	return w.Conn.Read(p)
}

// atRest tells whether everything that was read are whole records.
func (w *wire) atRest() bool { return w.frame.have == 0 && w.frame.left == 0 }

// recordHeader is the length of what comes before the bytes of a TLS record: its
// type, a version, and how many bytes follow.
const recordHeader = 5

// frame follows the records of a TLS stream.
type frame struct {
	header [recordHeader]byte
	have   int // bytes of the header of the next record
	left   int // bytes that are to come of this one
}

// pass takes in the next bytes of the stream.
func (f *frame) pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left, p = f.left-n, p[n:]
			continue
		}
		n := copy(f.header[f.have:], p)
		f.have, p = f.have+n, p[n:]
		if f.have == recordHeader {
			f.left, f.have = int(binary.BigEndian.Uint16(f.header[3:])), 0
		}
	}
}

// nothingYet is the error of a read that found nothing.
func nothingYet() error { return os.ErrDeadlineExceeded }

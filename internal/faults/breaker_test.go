package faults_test

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// breaker is a proxy of bytes whose connections come to harm.
type breaker struct {
	ln    net.Listener
	to    string
	work  sync.WaitGroup
	mu    sync.Mutex
	luck  *rand.Rand            // guarded by mu
	drawn int                   // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu; nil once it is closed
}

// harm is what comes over a connection.
type harm int

const (
	noHarm    harm = iota
	cut            // both sides lose it
	ended          // one side hears that there is no more
	swallowed      // nothing goes on for a while, then it is cut
	held           // nothing goes on for a while
	spoilt         // one byte is another
	repeated       // some bytes come twice
	swapped        // two bytes come in the wrong order
	slow           // each byte by itself
	harms          // how many there are
)

// fate says what happens to which direction of a connection, and at which byte.
type fate struct {
	harm harm
	up   bool
	at   int
	wait time.Duration
}

func startBreaker(tb testing.TB, to string, seed uint64) *breaker {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b := &breaker{ln: ln, to: to, luck: rand.New(rand.NewPCG(seed, 0)), conns: map[net.Conn]struct{}{}}
	b.work.Go(b.accept)
	tb.Cleanup(b.close)
	return b
}

func (b *breaker) port() string {
	_, port, _ := net.SplitHostPort(b.ln.Addr().String())
	return port
}

func (b *breaker) close() {
	_ = b.ln.Close()
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
	b.mu.Unlock()
	b.work.Wait()
}

func (b *breaker) accept() {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.work.Go(func() { b.serve(c) })
	}
}

// draw chooses a fate. Small positions are as likely as large ones, so that the
// handshake, the first request and later ones are all hit.
func (b *breaker) draw() fate {
	b.mu.Lock()
	defer b.mu.Unlock()
	const most, spared = 30_000, 10_000
	f := fate{
		harm: harm(b.luck.IntN(int(harms))), up: b.luck.IntN(2) == 0, at: int(math.Exp(b.luck.Float64()*math.Log(most))) - 1,
		wait: time.Duration(b.luck.IntN(200)) * time.Millisecond,
	}
	if b.drawn == 0 { // what a run asks first: without an answer it does not begin
		f.at += spared
	}
	b.drawn++
	return f
}

// keep remembers a connection, so that closing the proxy ends it.
func (b *breaker) keep(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns == nil {
		_ = c.Close()
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *breaker) drop(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = c.Close()
	delete(b.conns, c)
}

func (b *breaker) serve(client net.Conn) {
	if !b.keep(client) {
		return
	}
	defer b.drop(client)
	hub, err := net.Dial("tcp", b.to)
	if err != nil || !b.keep(hub) {
		return
	}
	defer b.drop(hub)
	f := b.draw()
	var both sync.WaitGroup
	end := func() { _, _ = client.Close(), hub.Close() }
	pass := func(to, from net.Conn, mine bool) {
		if err := f.pass(to, from, mine, end); err != nil { // nothing more comes over it
			end()
		}
	}
	both.Go(func() { pass(hub, client, f.up) })
	both.Go(func() { pass(client, hub, !f.up) })
	both.Wait()
}

var errCut = errors.New("cut")

// pass takes bytes from one side to the other until the first ends. Mine says
// that this direction is the one that comes to harm; end ends both.
func (f fate) pass(to, from net.Conn, mine bool, end func()) error {
	buf, passed, trickles := make([]byte, 4<<10), 0, false
	for {
		n, err := from.Read(buf)
		part := buf[:n]
		if i := f.at - passed; mine && i >= 0 && i < n {
			trickles = f.harm == slow
			if f.harm != slow && f.harm != held { // a side that waits for bytes that do not come learns it in the end
				defer time.AfterFunc(f.wait, end).Stop()
			}
			if part, err = f.strike(to, from, part, i); err != nil {
				return err
			}
		}
		passed += n
		if writeErr := write(to, part, trickles); writeErr != nil {
			return writeErr
		}
		if err != nil {
			return to.(*net.TCPConn).CloseWrite()
		}
	}
}

// strike does the harm at byte i of a part, and returns what goes on of it.
func (f fate) strike(to, from net.Conn, part []byte, i int) ([]byte, error) {
	switch f.harm {
	case spoilt:
		part[i] ^= 0x55
	case repeated:
		return append(part[:i:i], append(part[i:len(part):len(part)], part[i:]...)...), nil
	case swapped:
		if i > 0 {
			part[i-1], part[i] = part[i], part[i-1]
		}
	case cut, ended, swallowed, held:
		if err := write(to, part[:i], false); err != nil {
			return nil, err
		}
		return part[i:], f.interrupt(to, from)
	case noHarm, slow, harms:
	}
	return part, nil
}

// interrupt stops what goes one way, for a while or for good.
func (f fate) interrupt(to, from net.Conn) error {
	switch f.harm {
	case ended:
		_ = to.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, from) // until that side has ended, too
	case swallowed, held:
		time.Sleep(f.wait) // the harm itself
	case noHarm, cut, spoilt, repeated, swapped, slow, harms:
	}
	if f.harm == held {
		return nil
	}
	return errCut
}

func write(to net.Conn, part []byte, trickles bool) error {
	if !trickles {
		_, err := to.Write(part)
		return err
	}
	for i := range part {
		if _, err := to.Write(part[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

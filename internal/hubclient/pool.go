package hubclient

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// pool keeps the connections to one hub. A connection serves one request at a
// time and is used again as long as both sides keep it; the one used last is
// used next, so that a quiet hour lets the others go.
type pool struct {
	dialer *dialer
	slots  chan struct{} // one for each connection that may be open: its capacity is the bound

	mu     sync.Mutex
	idle   []*conn     // guarded by mu, the one used last at the end
	closed bool        // guarded by mu
	reaper *time.Timer // guarded by mu; closes what has rested for too long, nil while nothing rests

	short      bool        // guarded by mu: this machine could not open a connection
	lost       int         // guarded by mu: slots that are given up for it
	onShortage func(error) // is told, once

	unzips chan *gzip.Reader // those that nobody uses
}

// conn is a connection and what it takes to speak on it.
type conn struct {
	net.Conn       // TLS
	raw      *wire // below it
	meter    *meter
	in       *bufio.Reader
	out      []byte // scratch for a request
	pool     *pool
	used     time.Time
}

const (
	// idleTimeout is less than the gateways take, so that a request is seldom
	// written to a connection that they are just closing.
	idleTimeout = 50 * time.Second
	readBuffer  = 8 << 10
)

func newPool(d *dialer, size int) *pool {
	return &pool{dialer: d, slots: make(chan struct{}, size), unzips: make(chan *gzip.Reader, maxUnzips)}
}

// get returns a connection that nobody else uses, a new one if none is idle.
// Where this machine is short of what a connection takes, there will be fewer of
// them: get waits for one that is open already.
func (p *pool) get(ctx context.Context, deadline time.Time) (*conn, error) {
	for {
		if err := p.acquire(ctx, deadline); err != nil {
			return nil, err
		}
		for c := p.takeIdle(); c != nil; c = p.takeIdle() {
			if c.alive(time.Now()) {
				return c, nil
			}
			_ = c.Close() // it is dead already
		}
		c, err := p.dialer.dial(ctx, deadline)
		if err == nil {
			c.pool = p
			return c, nil
		}
		if !isShortage(err) {
			<-p.slots
			return nil, err
		}
		if err = p.makeDo(ctx, deadline, err); err != nil {
			return nil, err
		}
	}
}

// shortagePause is how long to wait for files, ports or memory when there is no
// connection of ours to wait for.
const shortagePause = 100 * time.Millisecond

// makeDo gives up the slot of a connection that this machine cannot open: for
// good if others are open, so that their number fits. It returns an error once
// the time for the call is over.
func (p *pool) makeDo(ctx context.Context, deadline time.Time, short error) error {
	p.mu.Lock()
	fewer := p.lost < cap(p.slots)-1
	if fewer {
		p.lost++
	}
	first := !p.short
	p.short = true
	p.mu.Unlock()
	if first && p.onShortage != nil {
		p.onShortage(short)
	}
	if fewer {
		return nil
	}
	<-p.slots
	timer := time.NewTimer(min(shortagePause, time.Until(deadline)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !time.Now().Before(deadline) {
		return short
	}
	return nil
}

// acquire takes a slot.
func (p *pool) acquire(ctx context.Context, deadline time.Time) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pool) takeIdle() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

// put gives a connection back. Only one whose last answer was read to its end
// may be kept.
func (p *pool) put(c *conn, keep bool) {
	defer func() { <-p.slots }()
	if keep {
		c.used = time.Now()
		p.mu.Lock()
		keep = !p.closed
		if keep {
			p.idle = append(p.idle, c)
			p.reapLaterLocked(idleTimeout)
		}
		p.mu.Unlock()
	}
	if !keep {
		_ = c.Close() // whatever it has to say comes too late
	}
}

// maxUnzips is how many decompressors are kept. Only pages are large enough to
// come compressed, and few are read at once.
const maxUnzips = 4

func (p *pool) takeUnzip() *gzip.Reader {
	select {
	case z := <-p.unzips:
		return z
	default:
		return new(gzip.Reader)
	}
}

func (p *pool) putUnzip(z *gzip.Reader) {
	select {
	case p.unzips <- z:
	default: // there are enough
	}
}

// close ends the idle connections; the others end when they are given back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		_ = c.Close() // nobody is waiting for it
	}
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
	}
}

// reapLaterLocked has the pool looked through after d, unless it will be anyway.
func (p *pool) reapLaterLocked(d time.Duration) {
	if p.reaper == nil {
		p.reaper = time.AfterFunc(d, p.reap)
	}
}

// reap closes the connections that nobody has used for idleTimeout.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaper = nil
	now, old := time.Now(), 0
	for old < len(p.idle) && now.Sub(p.idle[old].used) >= idleTimeout {
		_ = p.idle[old].Close() // nobody is waiting for it
		old++
	}
	p.idle = slices.Delete(p.idle, 0, old)
	if len(p.idle) > 0 {
		p.reapLaterLocked(idleTimeout - now.Sub(p.idle[0].used))
	}
}

// alive tells whether the connection can carry a request. Between answers the
// hub has nothing to say: what can be read is its goodbye, or an answer too many
// that the next request would take for its own.
func (cn *conn) alive(now time.Time) bool {
	if now.Sub(cn.used) > idleTimeout || cn.in.Buffered() > 0 || cn.raw.SetReadDeadline(time.Time{}) != nil {
		return false
	}
	cn.meter.left = 1
	cn.raw.probing = true
	_, err := cn.in.Peek(1)
	cn.raw.probing = false
	return errors.Is(err, os.ErrDeadlineExceeded) && cn.raw.atRest()
}

// meter bounds what is read for one answer, header and all.
type meter struct {
	net.Conn
	left int64
}

// Read reads what is left of the bound.
func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errTooLong
	}
	n, err := m.Conn.Read(p)
	m.left -= int64(n)
	return n, err
}

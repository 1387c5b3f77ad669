package devices

import (
	"net"
	"sync"
	"sync/atomic"
)

// BoundedListener accepts only so many connections at a time; more wait in the
// kernel's queue.
type BoundedListener struct {
	net.Listener
	Accepted atomic.Int64
	free     chan struct{}
	done     chan struct{}
	once     sync.Once
}

// NewBoundedListener bounds a listener.
func NewBoundedListener(ln net.Listener, limit int) *BoundedListener {
	return &BoundedListener{Listener: ln, free: make(chan struct{}, limit), done: make(chan struct{})}
}

// Accept waits until there is both a place and a connection.
func (l *BoundedListener) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	l.Accepted.Add(1)
	return &boundedConn{Conn: c, release: func() { <-l.free }}, nil
}

// Close stops a waiting Accept as well.
func (l *BoundedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close gives the place back, once.
func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

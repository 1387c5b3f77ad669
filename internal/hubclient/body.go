package hubclient

import (
	"context"
	"errors"
	"io"
	"net/http/httptrace"
	"sync/atomic"
)

// sentBody is a request body that knows whether any of it was taken to be
// sent. That is the whole difference between "it did not happen" and "it may
// have": a hub cannot act on a request whose announced body it never got. A
// request without a body counts as sent once it has a connection to go on.
type sentBody struct {
	data  []byte
	off   int
	state atomic.Int32
}

const (
	bodyWaiting   = iota // nobody has read it
	bodyTaken            // the transport began to write it
	bodyAbandoned        // the request was given up before that
)

var errAbandoned = errors.New("request abandoned before it was written")

// Read hands the body to the transport. It refuses once the request was
// abandoned: the transport's writer may still come around after RoundTrip has
// returned, and what was reported as not sent must not be sent then.
func (b *sentBody) Read(p []byte) (int, error) {
	if b.state.Load() != bodyTaken && !b.state.CompareAndSwap(bodyWaiting, bodyTaken) {
		return 0, errAbandoned
	}
	if b.off == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.off:])
	b.off += n
	return n, nil
}

// watch returns a context in which a request without a body is taken as soon
// as it has a connection: nobody will ever read its body.
func (b *sentBody) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { b.state.CompareAndSwap(bodyWaiting, bodyTaken) },
	})
}

// Close does nothing; the transport insists on it.
func (b *sentBody) Close() error { return nil }

// again is the transport's way to start over on a fresh connection. It asks
// only when nothing at all was written, so the body is untaken again.
func (b *sentBody) again() (io.ReadCloser, error) {
	b.state.Store(bodyWaiting)
	b.off = 0
	return b, nil
}

// abandon ends the request and tells whether it may have been sent.
func (b *sentBody) abandon() (maybeSent bool) {
	return !b.state.CompareAndSwap(bodyWaiting, bodyAbandoned)
}

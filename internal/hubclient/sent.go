package hubclient

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// sent knows whether any of a request may have left us. That is the whole
// difference between "it did not happen" and "it may have".
//
// The transport says when it has put the header into its buffer, which is
// before the first byte is on the wire. When a request is given up, the
// transport closes its connection before it returns; so what was not in the
// buffer by then will not be sent later either.
type sent struct {
	buffered atomic.Bool
}

// watch returns a context whose requests report to s.
func (s *sent) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// A connection that turns out to be dead before anything was written is
		// replaced by the transport, and the request starts over on the new one.
		GotConn:      func(httptrace.GotConnInfo) { s.buffered.Store(false) },
		WroteHeaders: func() { s.buffered.Store(true) },
	})
}

// maybe tells whether the hub can have seen the request.
func (s *sent) maybe() bool { return s.buffered.Load() }

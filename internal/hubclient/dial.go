package hubclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"
)

const dialTimeout = 15 * time.Second

// dialer opens connections to one hub, through a proxy if there is one.
type dialer struct {
	address string // of the hub, with its port
	network func(ctx context.Context, network, addr string) (net.Conn, error)
	proxy   *url.URL // nil for none
	tls     *tls.Config
}

func newDialer(host string, connections int, o Options) (*dialer, error) {
	d := &dialer{address: withPort(host, "443"), network: o.DialContext}
	if d.network == nil {
		d.network = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	name, _, err := net.SplitHostPort(d.address)
	if err != nil {
		return nil, err
	}
	d.tls = &tls.Config{
		ServerName: name, RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(connections),
	}
	if o.Proxy == nil {
		return d, nil
	}
	// One hub, one proxy: ask once instead of at each request.
	if d.proxy, err = o.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: host}}); err != nil {
		// Not wrapped: the cause may quote an address with a password in it.
		return nil, fmt.Errorf("choose a proxy for %s: %s", host, redact(err.Error()))
	}
	return d, nil
}

func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(host, port)
}

// dial opens a connection and agrees on keys with the hub.
func (d *dialer) dial(ctx context.Context, deadline time.Time) (*conn, error) {
	if limit := time.Now().Add(dialTimeout); limit.Before(deadline) {
		deadline = limit
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	reached, err := d.reach(ctx)
	if err != nil {
		return nil, err
	}
	raw := newWire(reached)
	secure := tls.Client(raw, d.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // what failed before is what matters
		return nil, err
	}
	m := &meter{Conn: secure}
	return &conn{Conn: secure, raw: raw, meter: m, in: bufio.NewReaderSize(m, readBuffer), used: time.Now()}, nil
}

// reach opens the way to the hub on which TLS begins.
func (d *dialer) reach(ctx context.Context) (net.Conn, error) {
	if d.proxy == nil {
		return d.network(ctx, "tcp", d.address)
	}
	switch d.proxy.Scheme {
	case "http":
		return d.tunnel(ctx, "80")
	case "https":
		return d.tunnel(ctx, "443")
	case "socks5", "socks5h":
		via, err := proxy.FromURL(d.proxy, contextDialer(d.network))
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", d.proxy.Host, err)
		}
		if via, ok := via.(proxy.ContextDialer); ok {
			return via.DialContext(ctx, "tcp", d.address)
		}
	}
	return nil, fmt.Errorf("proxy %s: scheme %q is none of http, https, socks5", d.proxy.Host, d.proxy.Scheme)
}

// contextDialer makes a dialer of a function, as package proxy wants it.
type contextDialer func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial is what the interface asks for; DialContext is what is called.
func (f contextDialer) Dial(network, addr string) (net.Conn, error) {
	return f(context.Background(), network, addr)
}

// DialContext calls the function.
func (f contextDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return f(ctx, network, addr)
}

// tunnel asks an HTTP proxy for a way to the hub.
func (d *dialer) tunnel(ctx context.Context, port string) (net.Conn, error) {
	c, err := d.network(ctx, "tcp", withPort(d.proxy.Host, port))
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if d.proxy.Scheme == "https" {
		secure := tls.Client(c, &tls.Config{ServerName: d.proxy.Hostname(), RootCAs: d.tls.RootCAs, MinVersion: tls.VersionTLS12})
		if err = secure.HandshakeContext(ctx); err != nil {
			_ = c.Close() // what failed before is what matters
			return nil, fmt.Errorf("proxy: %w", err)
		}
		c = secure
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // ends what waits for the proxy
	err = d.connect(c)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = c.Close() // what failed before is what matters
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return c, nil
}

// connect makes the CONNECT request and reads its answer. The hub speaks only
// after we have, so nothing but the answer can be in the buffer.
func (d *dialer) connect(c net.Conn) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: d.address}, Host: d.address, Header: http.Header{}}
	if u := d.proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(c, 1), req) //nolint:bodyclose // the body is the tunnel
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %s", res.Status)
	}
	return nil
}

package emulator

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
)

// Server is an emulated hub. Its methods are safe for concurrent use.
type Server struct {
	opts  Options
	tier  tier
	log   *slog.Logger
	ca    *authority
	tls   *tls.Config
	keys  *keyring
	clock *clock
	store *store
	links *links
	front *front
	heard heard

	grants   grantCache
	zippers  sync.Pool
	buffers  sync.Pool
	instance uint64 // random; distinguishes the tracking ids of two hubs
	requests atomic.Uint64

	stateLog  *stateLog    // nil without a state file
	stateLock *flock.Flock // likewise
	saving    sync.Mutex   // held while the state is written as a whole
	stateSize atomic.Int64 // of the state file as it is now

	operations operations
	skewed     atomic.Int64 // see SetSkew

	chosen    choices
	throttles throttles
	schedules schedules

	faultsOff atomic.Bool
	faults    atomic.Pointer[faultSet]    // whose faults strike; nil for none
	opCalls   [countedOfHub]atomic.Uint64 // calls seen, for faults

	contentType, varyOrigin []string // shared header values, never written to

	// life ends when the hub closes; every wait hangs on it.
	life context.Context //nolint:containedctx // the server is the owner of this context
	end  context.CancelFunc

	http      *http.Server
	httpsAddr string
	admin     *http.Server // nil unless asked for
	adminAddr string
	hostName  string // with its port unless that is 443
	serving   sync.WaitGroup
	bounded   *boundedListener // of HTTPS; nil if the hub does not listen
}

// levelTrace is for what only somebody who debugs a client wants to see.
const levelTrace = slog.LevelDebug

// The bounds of one connection and of all of them.
const (
	maxConnections  = 8192
	maxHeaderBytes  = 64 << 10
	headerDeadline  = 30 * time.Second
	idleDeadline    = 5 * time.Minute
	closingDeadline = 2 * time.Second
)

// New makes a hub that does not listen: its [Server.Handler] is all there is.
func New(opts Options) (*Server, error) {
	opts, t, err := opts.settled()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: opts, tier: t, log: opts.Log, clock: &clock{}, operations: allOperations(),
		contentType: []string{"application/json; charset=utf-8"},
		varyOrigin:  []string{"Origin"},
		hostName:    opts.HostName,
	}
	if s.chosen, err = parseBehaviour(opts.Behaviour); err != nil {
		return nil, err
	}
	s.throttles.limit(t, opts.Units)
	s.schedules.limit, s.schedules.server = t.maxActiveJobs(), s
	if s.ca, err = openAuthority(opts.TLSDir); err != nil {
		return nil, err
	}
	if s.tls, err = s.ca.serverConfig(opts.HostName); err != nil {
		return nil, err
	}
	if s.keys, err = openKeyring(opts.TLSDir); err != nil {
		return nil, err
	}
	var seed [8]byte
	rand.Read(seed[:])
	s.instance = binary.LittleEndian.Uint64(seed[:])
	s.buffers.New = func() any { b := make([]byte, 0, 1<<10); return &b }
	s.store = newStore(opts.Fleet, s.clock.now())
	s.faults.Store(&faultSet{fleet: opts.Fleet})
	s.links = newLinks()
	s.front = newFront(s)
	s.life, s.end = context.WithCancel(context.Background())
	if opts.StateFile != "" {
		if err := s.loadState(); err != nil {
			return nil, errors.Join(err, s.abandon())
		}
	}
	return s, nil
}

// abandon lets go of a hub that did not come to serve anybody.
func (s *Server) abandon() error {
	s.end()
	if s.stateLock == nil {
		return nil
	}
	return s.stateLock.Unlock()
}

// Start makes a hub and returns when it accepts connections.
func Start(opts Options) (*Server, error) {
	s, err := New(opts)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(s.life, "tcp", s.opts.HTTPSAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for HTTPS: %w", err), s.abandon())
	}
	s.httpsAddr = ln.Addr().String()
	if _, port, err := net.SplitHostPort(s.httpsAddr); err == nil && port != "443" {
		s.hostName += ":" + port
	}
	s.bounded = newBoundedListener(ln, maxConnections)
	s.http = s.httpServer()
	if s.opts.MQTTAddr != "" {
		if err := s.front.listen(s.life, s.opts.MQTTAddr); err != nil {
			return nil, errors.Join(err, ln.Close(), s.abandon())
		}
		s.warnOpen("MQTT", s.front.addr)
	}
	s.warnOpen("HTTPS", s.httpsAddr)
	if s.opts.StateFile != "" {
		s.serving.Go(s.keepSaving)
	}
	s.serving.Go(func() {
		s.served("HTTPS", s.http.Serve(tls.NewListener(s.bounded, s.tls)))
	})
	if s.opts.AdminAddr != "" {
		if err := s.listenAdmin(s.life, s.opts.AdminAddr); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// httpServer is what serves the API, with the bounds of one connection.
func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerDeadline,
		IdleTimeout:       idleDeadline,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(tlsFailures{s}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return s.life },
	}
}

func (s *Server) served(what string, err error) {
	if !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("a listener ended", "for", what, "error", err)
	}
}

// tlsFailures takes what the HTTP server has to say of connections that did not
// come about.
type tlsFailures struct{ server *Server }

func (t tlsFailures) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	if rest, ok := strings.CutPrefix(text, "http: TLS handshake error from "); ok {
		from, why, _ := strings.Cut(rest, ": ")
		t.server.tlsFailed(from, why)
	} else {
		t.server.log.Log(context.Background(), levelTrace, text)
	}
	return len(line), nil
}

// tlsFailed says what whoever wrote the client can do. One that went away during
// the handshake was looking for a port, or has said itself what was wrong.
func (s *Server) tlsFailed(from, why string) {
	level, hint := slog.LevelWarn, "the client must trust the hub's own certificate (caFile of the ready file), and call it by the name in its connection string"
	switch {
	case strings.HasSuffix(why, "EOF") || strings.Contains(why, "reset by peer") || strings.Contains(why, "closed network connection"):
		level = levelTrace
	case strings.Contains(why, "first record does not look like a TLS handshake") || strings.Contains(why, "HTTP request to an HTTPS server"):
		hint = "this port speaks TLS: use https, mqtts or wss"
	case strings.Contains(why, "protocol version") || strings.Contains(why, "unsupported versions"):
		hint = "the hub speaks TLS 1.2 and 1.3"
	}
	s.log.Log(context.Background(), level, "TLS with a client failed", "from", from, "error", why, "hint", hint)
}

// warnOpen tells of a listener that others than this machine can reach.
func (s *Server) warnOpen(what, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (ip == nil || !ip.IsLoopback()) {
		s.log.Warn("the emulated hub can be reached from other machines", "for", what, "address", addr)
	}
}

// Close stops listening and waits a few seconds for what is in flight; calls
// that still hang then are cut.
func (s *Server) Close() error {
	var err error
	s.front.close()
	if s.admin != nil {
		err = s.admin.Close()
	}
	if s.http != nil {
		ctx, stop := context.WithTimeout(context.Background(), closingDeadline)
		defer stop()
		down := s.http.Shutdown(ctx)
		if errors.Is(down, context.DeadlineExceeded) {
			s.end()
			down = s.http.Close()
		}
		err = errors.Join(err, down)
	}
	s.end()
	s.clock.close()
	s.serving.Wait()
	if s.opts.StateFile != "" {
		err = errors.Join(err, s.saveState(), s.stateLock.Unlock())
	}
	if err != nil {
		return fmt.Errorf("close the emulated hub: %w", err)
	}
	return nil
}

// HostName is the hub's name as connection strings have it: with the port of
// its HTTPS listener unless that is 443.
func (s *Server) HostName() string { return s.hostName }

// HTTPSAddr is the address that the hub listens on; empty if it does not.
func (s *Server) HTTPSAddr() string { return s.httpsAddr }

// MQTTAddr is the address that devices connect to; empty if they cannot.
func (s *Server) MQTTAddr() string { return s.front.addr }

// AdminAddr is the address of the control endpoint; empty if there is none.
func (s *Server) AdminAddr() string { return s.adminAddr }

// CAFile is the file of the certificate authority to trust; empty when it is
// in memory only.
func (s *Server) CAFile() string { return s.ca.file }

// CAPEM is the certificate authority to trust.
func (s *Server) CAPEM() []byte { return s.ca.pem }

// ConnectionString is the one of the policy that may do everything.
func (s *Server) ConnectionString() string {
	cs, _ := s.PolicyConnectionString("iothubowner")
	return cs
}

// PolicyConnectionString is the one of a policy: iothubowner, service, device,
// registryRead or registryReadWrite. It says whether there is such a policy.
func (s *Server) PolicyConnectionString(name string) (string, bool) {
	p := s.keys.policy(name)
	if p == nil {
		return "", false
	}
	return "HostName=" + s.hostName + ";SharedAccessKeyName=" + p.name + ";SharedAccessKey=" + p.primary, true
}

// AddDevice registers a device unless there is one of this id, and returns its
// connection string. Its keys follow from the id and what TLSDir keeps, so that
// they are the same at the next start.
func (s *Server) AddDevice(id string) (connectionString string, err error) {
	if !validID(id) {
		return "", fmt.Errorf("%q: an id has 1 to 128 letters, digits or any of - : . + %% _ # * ? ! ( ) , = @ ; $ '", id)
	}
	d, ok := s.store.find(id)
	if !ok {
		now := s.clock.now()
		ident := s.identityOf(subject{device: device{id: id, slot: -1}, place: -1})
		var refusal *apiError
		if d, refusal = s.store.create(id, &record{id: id, ident: &ident, twin: newborn(now)}, now); refusal != nil {
			return "", fmt.Errorf("%q: %w", id, refusal)
		}
	}
	host := s.opts.HostName
	if _, port, err := net.SplitHostPort(s.MQTTAddr()); err == nil && port != "8883" {
		host = net.JoinHostPort(host, port) // it is for devices, which speak MQTT
	}
	m := subject{device: d, place: -1}
	ident := s.identityOf(m)
	if ident.auth != authSAS {
		return "HostName=" + host + ";DeviceId=" + id + ";x509=true", nil
	}
	primary, _ := s.keysOf(m, ident)
	return "HostName=" + host + ";DeviceId=" + id + ";SharedAccessKey=" + primary, nil
}

// answersTo says whether host, without port, is a name of this hub.
func (s *Server) answersTo(host string) bool {
	return strings.EqualFold(host, s.opts.HostName) || strings.EqualFold(host, "localhost") || host == "127.0.0.1"
}

// boundedListener accepts only so many connections at a time; more wait in the
// kernel's queue.
type boundedListener struct {
	net.Listener
	accepted atomic.Int64
	free     chan struct{}
	done     chan struct{}
	once     sync.Once
}

func newBoundedListener(ln net.Listener, limit int) *boundedListener {
	return &boundedListener{Listener: ln, free: make(chan struct{}, limit), done: make(chan struct{})}
}

// Accept waits until there is both a place and a connection.
func (l *boundedListener) Accept() (net.Conn, error) {
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
	l.accepted.Add(1)
	return &boundedConn{Conn: c, release: func() { <-l.free }}, nil
}

// Close stops a waiting Accept as well.
func (l *boundedListener) Close() error {
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

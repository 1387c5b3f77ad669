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

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/clock"
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/jobs"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
)

// Server is an emulated hub. Its methods are safe for concurrent use.
type Server struct {
	*core.Hub

	opts  Options
	ca    *access.Authority
	tls   *tls.Config
	front *devices.Front

	grants  access.GrantCache
	entra   *access.Entra // nil: no identity of Entra ID is known
	zippers sync.Pool
	buffers sync.Pool

	stateLog  *stateLog    // nil without a state file
	stateLock *flock.Flock // likewise
	saving    sync.Mutex   // held while the state is written as a whole
	stateSize atomic.Int64 // of the state file as it is now

	operations operations
	schedules  jobs.Schedules

	contentType, varyOrigin []string // shared header values, never written to

	end context.CancelFunc // of life

	http      *http.Server
	httpsAddr string
	admin     *http.Server // nil unless asked for
	adminAddr string
	hostName  string // with its port unless that is 443
	serving   sync.WaitGroup
	bounded   *devices.BoundedListener // of HTTPS; nil if the hub does not listen
}

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
		Hub: &core.Hub{Name: opts.HostName, Tier: t, Log: opts.Log, Clock: clockAt(opts.StartAt)}, opts: opts, operations: allOperations(),
		contentType: []string{"application/json; charset=utf-8"},
		varyOrigin:  []string{"Origin"},
		hostName:    opts.HostName,
		entra:       opts.Entra,
	}
	if s.Chosen, err = core.ParseBehaviour(opts.Behaviour); err != nil {
		return nil, err
	}
	s.Throttles.Limit(t, opts.Units)
	s.schedules.Limit, s.schedules.Hub = t.MaxActiveJobs(), s.Hub
	if s.ca, err = access.OpenAuthority(opts.TLSDir); err != nil {
		return nil, err
	}
	if s.tls, err = s.ca.ServerConfig(opts.HostName); err != nil {
		return nil, err
	}
	if s.Keys, err = access.OpenKeyring(opts.TLSDir); err != nil {
		return nil, err
	}
	var seed [8]byte
	rand.Read(seed[:])
	s.Instance = binary.LittleEndian.Uint64(seed[:])
	s.buffers.New = func() any { b := make([]byte, 0, 1<<10); return &b }
	s.Store = store.New(opts.Fleet, s.Clock.Now())
	s.Faults.Store(&core.FaultSet{Fleet: opts.Fleet})
	s.Links = core.NewLinks()
	s.front = devices.NewFront(s.Hub, s.tls, s.tlsFailed)
	s.MailCount = s.front.MailCount
	s.Life, s.end = context.WithCancel(context.Background())
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
	ln, err := lc.Listen(s.Life, "tcp", s.opts.HTTPSAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for HTTPS: %w", err), s.abandon())
	}
	s.httpsAddr = ln.Addr().String()
	if _, port, err := net.SplitHostPort(s.httpsAddr); err == nil && port != "443" {
		s.hostName += ":" + port
	}
	s.bounded = devices.NewBoundedListener(ln, maxConnections)
	s.http = s.httpServer()
	if s.opts.MQTTAddr != "" {
		if err := s.front.Listen(s.Life, s.opts.MQTTAddr); err != nil {
			return nil, errors.Join(err, ln.Close(), s.abandon())
		}
		s.warnOpen("MQTT", s.front.Addr)
	}
	s.warnOpen("HTTPS", s.httpsAddr)
	if s.opts.StateFile != "" {
		s.serving.Go(s.keepSaving)
	}
	s.serving.Go(func() {
		s.served("HTTPS", s.http.Serve(tls.NewListener(s.bounded, s.tls)))
	})
	if s.opts.AdminAddr != "" {
		if err := s.listenAdmin(s.Life, s.opts.AdminAddr); err != nil {
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
		BaseContext:       func(net.Listener) context.Context { return s.Life },
		ConnState:         liftDeadline,
	}
}

// liftDeadline takes the deadline of a large answer away once the last byte of
// it is out. A handler cannot: what it wrote may still be in the server's buffer
// when it returns.
func liftDeadline(c net.Conn, state http.ConnState) {
	if state == http.StateIdle {
		_ = c.SetWriteDeadline(time.Time{}) // fails only on a connection that is gone
	}
}

func (s *Server) served(what string, err error) {
	if !errors.Is(err, http.ErrServerClosed) {
		s.Log.Error("a listener ended", "for", what, "error", err)
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
		t.server.Log.Log(context.Background(), core.LevelTrace, text)
	}
	return len(line), nil
}

// tlsFailed says what whoever wrote the client can do. One that went away during
// the handshake was looking for a port, or has said itself what was wrong.
func (s *Server) tlsFailed(from, why string) {
	level, hint := slog.LevelWarn, "the client must trust the hub's own certificate (caFile of the ready file), and call it by the name in its connection string"
	switch {
	case strings.HasSuffix(why, "EOF") || strings.Contains(why, "reset by peer") || strings.Contains(why, "closed network connection"):
		level = core.LevelTrace
	case strings.Contains(why, "first record does not look like a TLS handshake") || strings.Contains(why, "HTTP request to an HTTPS server"):
		hint = "this port speaks TLS: use https, mqtts or wss"
	case strings.Contains(why, "protocol version") || strings.Contains(why, "unsupported versions"):
		hint = "the hub speaks TLS 1.2 and 1.3"
	}
	s.Log.Log(context.Background(), level, "TLS with a client failed", "from", from, "error", why, "hint", hint)
}

// warnOpen tells of a listener that others than this machine can reach.
func (s *Server) warnOpen(what, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (ip == nil || !ip.IsLoopback()) {
		s.Log.Warn("the emulated hub can be reached from other machines", "for", what, "address", addr)
	}
}

// Close stops listening and waits a few seconds for what is in flight; calls
// that still hang then are cut.
func (s *Server) Close() error {
	var err error
	s.front.Close()
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
	s.Clock.Close()
	s.serving.Wait()
	s.schedules.Serving.Wait()
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
func (s *Server) MQTTAddr() string { return s.front.Addr }

// AdminAddr is the address of the control endpoint; empty if there is none.
func (s *Server) AdminAddr() string { return s.adminAddr }

// CAFile is the file of the certificate authority to trust; empty when it is
// in memory only.
func (s *Server) CAFile() string { return s.ca.File }

// CAPEM is the certificate authority to trust.
func (s *Server) CAPEM() []byte { return s.ca.Pem }

// ConnectionString is the one of the policy that may do everything.
func (s *Server) ConnectionString() string {
	cs, _ := s.PolicyConnectionString("iothubowner")
	return cs
}

// PolicyConnectionString is the one of a policy: iothubowner, service, device,
// registryRead or registryReadWrite. It says whether there is such a policy.
func (s *Server) PolicyConnectionString(name string) (string, bool) {
	p := s.Keys.Policy(name)
	if p == nil {
		return "", false
	}
	return "HostName=" + s.hostName + ";SharedAccessKeyName=" + p.Name + ";SharedAccessKey=" + p.Primary, true
}

// AddDevice registers a device unless there is one of this id, and returns its
// connection string. Its keys follow from the id and what TLSDir keeps, so that
// they are the same at the next start.
func (s *Server) AddDevice(id string) (connectionString string, err error) {
	if !store.ValidID(id) {
		return "", fmt.Errorf("%q: an id has 1 to 128 letters, digits or any of - : . + %% _ # * ? ! ( ) , = @ ; $ '", id)
	}
	d, ok := s.Store.Find(id)
	if !ok {
		now := s.Clock.Now()
		ident := s.IdentityOf(store.Subject{Device: store.Device{ID: id, Slot: -1}, Place: -1})
		var refusal *refuse.Error
		if d, refusal = s.Store.Create(id, &store.Record{ID: id, Ident: &ident, Twin: twindoc.Newborn(now)}, now); refusal != nil {
			return "", fmt.Errorf("%q: %w", id, refusal)
		}
	}
	host := s.opts.HostName
	if _, port, err := net.SplitHostPort(s.MQTTAddr()); err == nil && port != "8883" {
		host = net.JoinHostPort(host, port) // it is for devices, which speak MQTT
	}
	m := store.Subject{Device: d, Place: -1}
	ident := s.IdentityOf(m)
	if ident.Auth != store.AuthSAS {
		return "HostName=" + host + ";DeviceId=" + id + ";x509=true", nil
	}
	primary, _ := s.KeysOf(m, ident)
	return "HostName=" + host + ";DeviceId=" + id + ";SharedAccessKey=" + primary, nil
}

// clockAt is a clock that shows a time, or the real one.
func clockAt(start time.Time) *clock.Clock {
	c := &clock.Clock{}
	if !start.IsZero() {
		c.Offset.Store(int64(time.Until(start)))
	}
	return c
}

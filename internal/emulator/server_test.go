package emulator

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
)

// startHub starts a hub on a free port and a client that trusts it.
func startHub(t *testing.T, opts Options) (*Server, *http.Client) {
	t.Helper()
	opts.HTTPSAddr = "127.0.0.1:0"
	s, err := Start(opts)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.CAPEM()) {
		t.Fatal("CAPEM holds no certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(tr.CloseIdleConnections)
	return s, &http.Client{Transport: tr}
}

// get returns an answer's head; its body has been read.
func get(t *testing.T, s *Server, c *http.Client, host, path string) (status int, proto string, header http.Header) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.HTTPSAddr())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+net.JoinHostPort(host, port)+path+"?api-version=2021-04-12", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", signedBy(t, s, "iothubowner", s.HostName(), time.Hour))
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("GET %s from %s: %v", path, host, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Proto, resp.Header
}

func TestStartServesHTTPS(t *testing.T) {
	s, c := startHub(t, Options{Fleet: fleet.Default()})
	for _, host := range []string{"localhost", "127.0.0.1"} {
		status, proto, header := get(t, s, c, host, "/devices/myDevice")
		if status != http.StatusOK || proto != "HTTP/1.1" {
			t.Errorf("GET from %s answered %d over %s", host, status, proto)
		}
		same(t, "Content-Type", header.Get("Content-Type"), "application/json; charset=utf-8")
	}
	_, port, _ := net.SplitHostPort(s.HTTPSAddr())
	same(t, "HostName", s.HostName(), "localhost:"+port)
	if !strings.HasPrefix(s.ConnectionString(), "HostName=localhost:"+port+";SharedAccessKeyName=iothubowner;SharedAccessKey=") {
		t.Errorf("ConnectionString = %q", s.ConnectionString())
	}
}

func TestTwoHubsDoNotTrustEachOther(t *testing.T) {
	a, _ := startHub(t, Options{})
	_, c := startHub(t, Options{})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+a.HTTPSAddr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.Do(r); err == nil {
		resp.Body.Close()
		t.Error("a client of one hub trusts another")
	}
}

func TestTLSDirIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hub")
	first, _ := startHub(t, Options{TLSDir: dir, Fleet: fleet.Default(), HostName: "contoso.example"})
	same(t, "CAFile", first.CAFile(), filepath.Join(dir, "ca.pem"))
	key := keyOf(t, first, "service")
	doc := hubDevice(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("the directory holds %v, %v", files, err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		want := os.FileMode(0o600)
		if f.Name() == access.CaFile {
			want = 0o644 // the certificate is for everybody
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", f.Name(), info.Mode().Perm(), want)
		}
	}
	second, _ := startHub(t, Options{TLSDir: dir, Fleet: fleet.Default(), HostName: "contoso.example"})
	same(t, "CA", string(second.CAPEM()), string(first.CAPEM()))
	same(t, "service key", keyOf(t, second, "service"), key)
	same(t, "device", hubDevice(t, second), doc)
}

func hubDevice(t *testing.T, s *Server) map[string]any {
	t.Helper()
	h := testHub{Server: s, token: signedBy(t, s, "iothubowner", "localhost", time.Hour)}
	doc := h.do(t, "GET", "/devices/myDevice", "").want(t, 200).doc(t)
	for _, moving := range []string{"connectionStateUpdatedTime", "lastActivityTime"} {
		delete(doc, moving)
	}
	return doc
}

func TestBrokenTLSDir(t *testing.T) {
	for _, file := range []string{access.CaFile, access.CaKeyFile, access.KeysFile} {
		t.Run(file, func(t *testing.T) {
			dir := t.TempDir()
			s, err := New(Options{TLSDir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte("{broken"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := New(Options{TLSDir: dir}); err == nil {
				t.Error("New took the broken file")
			}
		})
	}
	t.Run("CA key is missing", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := New(Options{TLSDir: dir}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, access.CaKeyFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{TLSDir: dir}); err == nil {
			t.Error("New took a certificate without key")
		}
	})
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Tier: "S4"}, {Units: -1}, {Units: 201}, {HostName: "a:1"}, {HostName: "https://x"}} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v): no error", o)
		}
	}
	if _, err := Start(Options{HTTPSAddr: "nowhere:x"}); err == nil {
		t.Error("Start with a bad address: no error")
	}
}

func TestAnswersAreZippedWhenWorthIt(t *testing.T) {
	h := newHub(t, doors)
	for _, c := range []struct {
		path, accept, want string
	}{
		{"/devices", "gzip", "gzip"},
		{"/devices", "", ""},
		{"/devices/door-0001", "gzip, deflate", ""},
	} {
		a := h.do(t, "GET", c.path, "", "Accept-Encoding", c.accept).want(t, 200)
		same(t, c.path+" with "+c.accept, a.header.Get("Content-Encoding"), c.want)
		body := a.body
		if c.want == "gzip" {
			z, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			body = string(plain)
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("%s: the body is not JSON", c.path)
		}
	}
}

// Java's HTTP library knows no PATCH.
func TestPatchThatComesAsPost(t *testing.T) {
	h := newHub(t, doors)
	h.do(t, "POST", "/twins/door-0001", `{"tags":{"by":"java"}}`, "X-HTTP-Method-Override", "PATCH").want(t, 200)
	h.do(t, "POST", "/twins/door-0001", `{}`, "X-HTTP-Method-Override", "DELETE").want(t, 405)
	h.do(t, "GET", "/twins/door-0001", "", "X-HTTP-Method-Override", "PATCH").want(t, 200)
}

func TestRouter(t *testing.T) {
	h := newHub(t, doors)
	cases := []struct {
		method, path string
		status       int
		text         string
	}{
		{"GET", "/nothing", 404, "No HTTP resource was found"},
		{"GET", "/", 404, "No HTTP resource was found"},
		{"POST", "/twins/door-0001", 405, "does not support http method 'POST'"},
		{"GET", "/twins/door-0001/methods", 405, "does not support http method 'GET'"},
		{"POST", "/jobs/v2//cancel", 405, "does not support http method 'POST'"},
		{"GET", "/devices/query", 404, ""},
		{"GET", "/configurations", 501, "is not emulated"},
		{"GET", "/configurations/x", 501, "is not emulated"},
		{"POST", "/jobs/create", 501, "is not emulated"},
		{"GET", "/digitaltwins/door-0001", 501, "is not emulated"},
		{"POST", "/devices/door-0001/messages/events", 501, "MQTT"},
		{"GET", "/messages/serviceBound/feedback", 501, "is not emulated"},
		{"GET", "/a/b/c/d/e/f/g/h", 404, ""},
		{"GET", "/TWINS/door-0001/", 200, ""},
		{"GET", "/twins/door%2D0001", 200, ""},
		{"GET", "/twins/door-0001%2Fmethods", 404, ""},
		{"DELETE", "/devices/door-0001/commands", 200, `"totalMessagesPurged":0`},
		{"GET", "/jobs", 200, "[]"},
	}
	for _, c := range cases {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			a := h.do(t, c.method, c.path, "").want(t, c.status)
			if !strings.Contains(a.body, c.text) {
				t.Errorf("body %s does not hold %q", a.body, c.text)
			}
		})
	}
}

// TestCloseCutsHangingCalls checks that a hub whose device never answers can
// still be closed.
func TestCloseCutsHangingCalls(t *testing.T) {
	f, err := fleet.Parse("f", []byte(moods))
	if err != nil {
		t.Fatal(err)
	}
	s, c := startHub(t, Options{Fleet: f})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.HTTPSAddr()+"/twins/ok/methods?api-version=2021-04-12",
		strings.NewReader(`{"methodName":"hang","responseTimeoutInSeconds":300}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", signedBy(t, s, "service", s.HostName(), time.Hour))
	ended := make(chan struct{})
	go func() { // ends when the hub cuts the call, awaited below
		defer close(ended)
		if resp, err := c.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
	for s.Executed("ok").Methods == 0 {
		if ctx.Err() != nil {
			t.Fatal("the call did not arrive")
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	<-ended
}

func TestChunkedBodies(t *testing.T) {
	s, c := startHub(t, Options{Fleet: fleet.Default()})
	for size, want := range map[int]int{10: 200, maxTwinBody: 413} {
		body := io.MultiReader(strings.NewReader(`{"tags":{"a":"`), strings.NewReader(strings.Repeat("x", size)), strings.NewReader(`"}}`))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "https://"+s.HTTPSAddr()+"/twins/myDevice?api-version=2021-04-12", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", signedBy(t, s, "service", s.HostName(), time.Hour))
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		same(t, "status of a chunked body", resp.StatusCode, want)
	}
}

func TestWarnsOfOpenListeners(t *testing.T) {
	var said strings.Builder
	s, err := New(Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1:443", "[::1]:443"} {
		s.warnOpen("HTTPS", addr)
		same(t, "said of "+addr, said.String(), "")
	}
	for _, addr := range []string{"[::]:443", "192.0.2.1:443"} {
		said.Reset()
		s.warnOpen("HTTPS", addr)
		if !strings.Contains(said.String(), "level=WARN") || !strings.Contains(said.String(), addr) {
			t.Errorf("said of %s: %q, want a warning", addr, said.String())
		}
	}
}

// tiredListener has no more files, once.
type tiredListener struct {
	net.Listener
	tired atomic.Bool
}

func (l *tiredListener) Accept() (net.Conn, error) {
	if l.tired.CompareAndSwap(true, false) {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// That there are no files for one device does not lock all the others out.
func TestAcceptGoesOnAfterAnError(t *testing.T) {
	h := newHub(t, "")
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	tired := &tiredListener{Listener: ln}
	tired.tired.Store(true)
	h.front.Ln = tired
	if !h.front.Accept() {
		t.Error("an error that passes ended the listener")
	}
	ln.Close()
	if h.front.Accept() {
		t.Error("a closed listener goes on")
	}
	h.front.Ln = nil
}

// Who wrote a client that does not trust the hub reads what to do.
func TestTLSFailuresAreExplained(t *testing.T) {
	for why, want := range map[string]string{
		"remote error: tls: bad certificate":                       "level=WARN",
		"remote error: tls: unknown certificate authority":         "must trust",
		"tls: first record does not look like a TLS handshake":     "speaks TLS",
		"tls: client offered only unsupported versions: [302 301]": "TLS 1.2",
		"EOF": "",
	} {
		var log bytes.Buffer
		s := Server{Hub: &core.Hub{Log: slog.New(slog.NewTextHandler(&log, nil))}}
		if _, err := (tlsFailures{&s}).Write([]byte("http: TLS handshake error from 127.0.0.1:1: " + why + "\n")); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("of %s the log says %q, want %q", why, got, want)
		}
	}
}

package emulator

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/emulator/fleet"
)

// benchServer names the variable that makes this test binary a server: CPU
// time is told by process, so server and client must be two.
const benchServer = "EMULATOR_BENCH_SERVER"

func TestMain(m *testing.M) {
	if what := os.Getenv(benchServer); what != "" {
		if err := serveBench(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(doomedHub); dir != "" {
		if err := writeUntilKilled(dir, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// benchHello is what the server tells its client.
type benchHello struct{ Addr, CA, Token string }

// serveBench serves the hub, or a constant answer over the same TLS, until its
// standard input ends.
func serveBench(what string) error {
	f, err := fleet.Parse("meters.yaml", []byte(meters))
	if err != nil {
		return err
	}
	s, err := New(Options{Fleet: f})
	if err != nil {
		return err
	}
	handler := s.Handler()
	if what == "bare" {
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			io.WriteString(w, `{"status":200,"payload":{"Response":"locked"}}`)
		})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler}
	go srv.Serve(tls.NewListener(ln, s.tls)) // ends with the process
	cs := s.ConnectionString()
	hello := benchHello{Addr: ln.Addr().String(), CA: string(s.CAPEM()), Token: cs[strings.LastIndex(cs, "SharedAccessKey=")+len("SharedAccessKey="):]}
	if err = json.NewEncoder(os.Stdout).Encode(hello); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// BenchmarkMethodCPU reports the server's CPU time for a method call, as
// server-ns/op, and for a server that answers a constant body.
func BenchmarkMethodCPU(b *testing.B) {
	for _, what := range []string{"bare", "hub"} {
		b.Run(what, func(b *testing.B) { benchCPU(b, what) })
	}
}

func benchCPU(b *testing.B, what string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), benchServer+"="+what, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		b.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		b.Fatal(err)
	}
	var hello benchHello
	if err := json.Unmarshal(line, &hello); err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(hello.CA))
	b.SetParallelism(8)
	token := sign(b, "localhost", hello.Token, "iothubowner", time.Now().Add(time.Hour))
	b.RunParallel(func(pb *testing.PB) { rawCalls(b, pb, hello.Addr, token, roots) })
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "server-ns/op")
}

// rawCalls calls methods over one connection, with as little work as can be.
func rawCalls(b *testing.B, pb *testing.PB, addr, token string, roots *x509.CertPool) {
	b.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	body := `{"methodName":"lockDoor","payload":{"lockTime":"10m"},"responseTimeoutInSeconds":30}`
	for i := 0; pb.Next(); i++ {
		fmt.Fprintf(c, "POST /twins/meter-%07d/methods?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s",
			1+i*7919%1_000_000, token, len(body), body)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Error(err)
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Errorf("answered %d", resp.StatusCode)
			return
		}
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/state"
	"iothub-runner/spec"
)

// key finds what a script has made.
type key string

// made keeps what the commands of scripts make, by script and name. Scripts run
// in parallel.
var made sync.Map

func fifoOf(ts *testscript.TestScript, file string) chan error {
	c, _ := made.LoadOrStore(key(ts.Name()+" fifo "+file), make(chan error, 1)) // one result, taken by "fifo -wait"
	return c.(chan error)
}

func hubOf(ts *testscript.TestScript) *emulator.Server {
	s, ok := made.Load(key(ts.Name() + " hub"))
	if !ok {
		ts.Fatalf("no hub: say hub start first")
	}
	return s.(*emulator.Server)
}

// cmdHub is
//
//	hub start [FLEET [NAME]]   make a hub for this script, and tell the environment of it
//	hub did DEVICE METHODS PATCHES   assert what a device executed
//	hub idle                   assert that no device executed anything
//	hub each METHODS PATCHES   assert what each device of the fleet executed, which has 30
//	hub connections MAX        assert how many connections were made
//	hub offline DEVICE         disconnect a device; hub online DEVICE connects it again
//	hub lock PLAN              be the run that holds the lock of a plan, until hub unlock PLAN
//	hub policy NAME            use the connection string of another policy
//	hub job VAR STATUS         set VAR to the id of the one job of the hub with a status
//	hub wrongkey FILE          write a connection string with a key that is not the hub's
func cmdHub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: hub start|did|idle|connections|offline|policy")
	}
	rest := args[1:]
	switch args[0] {
	case "start":
		startHub(ts, rest)
	case "did":
		e := hubOf(ts).Executed(rest[0])
		if got, want := fmt.Sprintf("%d %d", e.Methods, e.Patches), rest[1]+" "+rest[2]; got != want {
			ts.Fatalf("device %s executed %s methods and patches, want %s", rest[0], got, want)
		}
	case "idle":
		for id, e := range hubOf(ts).EachExecuted {
			ts.Fatalf("device %s executed %+v, want nothing", id, e)
		}
	case "each":
		n := 0
		for id, e := range hubOf(ts).EachExecuted {
			if n++; fmt.Sprintf("%d %d", e.Methods, e.Patches) != rest[0]+" "+rest[1] {
				ts.Fatalf("device %s executed %+v", id, e)
			}
		}
		if n != 30 {
			ts.Fatalf("%d devices executed something, want 30", n)
		}
	case "connections":
		limit, err := strconv.Atoi(rest[0])
		ts.Check(err)
		if n := hubOf(ts).Accepted(); n == 0 || n > limit {
			ts.Fatalf("%d connections were made, want 1 to %d", n, limit)
		}
	case "offline", "online":
		ts.Check(hubOf(ts).SetOnline(rest[0], args[0] == "online"))
	case "job":
		ts.Setenv(rest[0], jobWith(ts, hub.JobStatus(rest[1])))
	case "lock", "unlock":
		lockPlan(ts, args[0], rest[0])
	case "wrongkey":
		cs := "HostName=" + hubOf(ts).HostName() + ";SharedAccessKeyName=service;SharedAccessKey=" + wrongKey
		ts.Check(os.WriteFile(ts.MkAbs(rest[0]), []byte(cs+"\n"), 0o600))
	case "policy":
		cs, ok := hubOf(ts).PolicyConnectionString(rest[0])
		if !ok {
			ts.Fatalf("the hub has no policy %q", rest[0])
		}
		ts.Setenv(connectionStringVar, cs)
	default:
		ts.Fatalf("hub %s: unknown", args[0])
	}
}

// jobWith returns the id of the one job of the hub with a status.
func jobWith(ts *testscript.TestScript, status hub.JobStatus) string {
	server := hubOf(ts)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CAPEM())
	client, err := hubclient.New(hubclient.Options{ConnectionString: server.ConnectionString(), RootCAs: roots})
	ts.Check(err)
	defer client.Close()
	page, err := client.Jobs(context.Background(), hub.JobFilter{Status: status})
	ts.Check(err)
	if len(page.Jobs) != 1 {
		ts.Fatalf("%d jobs are %s, want one", len(page.Jobs), status)
	}
	return page.Jobs[0].ID
}

// lockPlan takes or gives back the lock of a plan, as a run in another process
// would.
func lockPlan(ts *testscript.TestScript, verb, plan string) {
	name := key(ts.Name() + " lock " + plan)
	if verb == "unlock" {
		unlock, _ := made.Load(name)
		unlock.(func())()
		return
	}
	unlock, err := state.Place{Hub: ts.Getenv("HUB"), Plan: plan, Getenv: ts.Getenv}.Lock(context.Background(), 0)
	ts.Check(err)
	made.Store(name, unlock)
}

func startHub(ts *testscript.TestScript, args []string) {
	o := emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: fleet.Default()}
	if len(args) > 0 && args[0] != "-" {
		f, err := fleet.Parse(args[0], []byte(ts.ReadFile(args[0])))
		ts.Check(err)
		o.Fleet = f
	}
	if len(args) > 1 {
		o.HostName = args[1]
	}
	s, err := emulator.Start(o)
	ts.Check(err)
	ts.Defer(func() { _ = s.Close() })
	made.Store(key(ts.Name()+" hub"), s)
	ca := ts.MkAbs("hub-ca.pem")
	others, _ := os.ReadFile(ca) // of the hubs that were started before
	ts.Check(os.WriteFile(ca, append(others, s.CAPEM()...), 0o600))
	ts.Setenv("SSL_CERT_FILE", ca)
	ts.Setenv("HUB", s.HostName())
	ts.Setenv(connectionStringVar, s.ConnectionString())
}

// cmdProxy is "proxy start", which makes a proxy that leads every CONNECT to
// the script's hub, and "proxy used", which asserts that it was asked for it.
func cmdProxy(ts *testscript.TestScript, neg bool, args []string) {
	asked := key(ts.Name() + " proxy")
	if len(args) == 1 && args[0] == "used" && !neg {
		if host, ok := made.Load(asked); !ok || host != ts.Getenv("HUB") {
			ts.Fatalf("the proxy was asked for %v, want %s", host, ts.Getenv("HUB"))
		}
		return
	}
	hub := hubOf(ts).HTTPSAddr()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	proxy := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		made.Store(asked, r.Host)
		tunnel(w, hub)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = proxy.Serve(ln) })
	ts.Defer(func() { _ = proxy.Close(); serving.Wait() })
	ts.Setenv("HTTPS_PROXY", "http://"+ln.Addr().String())
}

// tunnel joins a client to an address, until either side ends.
func tunnel(w http.ResponseWriter, addr string) {
	there, err := net.Dial("tcp", addr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	w.WriteHeader(http.StatusOK)
	here, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(here, there); _ = here.Close() })
	_, _ = io.Copy(there, buf)
	_ = there.Close()
	back.Wait()
}

// cmdHole makes an address that takes connections and says nothing, and a
// connection string for it.
func cmdHole(ts *testscript.TestScript, _ bool, _ []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = ln.Close() })
	ts.Setenv(connectionStringVar, "HostName="+ln.Addr().String()+";SharedAccessKeyName=service;SharedAccessKey="+wrongKey)
}

// wrongKey is a key that no hub has.
const wrongKey = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0ISEhISE="

// cmdReport is "report FILE [PATH=VALUE...]": FILE must be a report that keeps
// every promise of one, and have these values.
func cmdReport(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: report FILE [PATH=VALUE...]")
	}
	text := ts.ReadFile(args[0])
	if err := checkReport([]byte(text)); err != nil {
		ts.Fatalf("%s: %v\n%s", args[0], err, text)
	}
	noSecret(ts, args[0], text)
	for _, arg := range args[1:] {
		path, want, ok := strings.Cut(arg, "=")
		if !ok {
			ts.Fatalf("%q: want PATH=VALUE", arg)
		}
		if got := gjson.Get(text, path).String(); got != want {
			ts.Fatalf("%s: %s is %q, want %q", args[0], path, got, want)
		}
	}
}

// checkReport says which promise a report breaks: its schema, one row for each
// target, outcomes that add up, rows in order.
func checkReport(text []byte) error {
	schema, err := jsonschema.NewCompiler().Compile("../../spec/report.schema.json")
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := schema.Validate(value); err != nil {
		return err
	}
	var rep spec.Report
	if err := json.Unmarshal(text, &rep); err != nil {
		return err
	}
	targets := 0
	total := map[spec.Outcome]int{}
	for _, job := range rep.Jobs {
		counted := map[spec.Outcome]int{}
		for _, row := range job.Devices {
			counted[row.Outcome]++
			total[row.Outcome]++
		}
		if len(job.Devices) != job.Targets || fmt.Sprint(counted) != fmt.Sprint(job.Outcomes) {
			return fmt.Errorf("job %s: %d targets with outcomes %v, but the rows have %v", job.Name, job.Targets, job.Outcomes, counted)
		}
		if !slices.IsSortedFunc(job.Devices, func(a, b spec.Row) int {
			return strings.Compare(a.DeviceID+"\x00"+a.ModuleID, b.DeviceID+"\x00"+b.ModuleID)
		}) {
			return fmt.Errorf("job %s: its rows are not sorted", job.Name)
		}
		targets += job.Targets
	}
	if rep.Summary.Targets != targets || fmt.Sprint(rep.Summary.Outcomes) != fmt.Sprint(total) {
		return errors.New("the summary does not add up")
	}
	return nil
}

// cmdJSONLines is "jsonlines FILE": every line of it is one JSON object.
func cmdJSONLines(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.SplitSeq(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n") {
		if !gjson.Valid(line) || !strings.HasPrefix(line, "{") {
			ts.Fatalf("%s: not a JSON object: %s", args[0], line)
		}
	}
}

// noSecret fails when a text holds a key of the environment's connection
// string, in any form that a program might show it in, or a signature.
func noSecret(ts *testscript.TestScript, name, text string) {
	for part := range strings.SplitSeq(ts.Getenv(connectionStringVar), ";") {
		secret, ok := strings.CutPrefix(part, "SharedAccessKey=")
		if ok && secret != "" && strings.Contains(text, strings.TrimRight(secret, "=")) {
			ts.Fatalf("%s holds the key of the connection string:\n%s", name, text)
		}
	}
	for _, word := range []string{"SharedAccessSignature", "sig=", "Authorization"} {
		if strings.Contains(text, word) {
			ts.Fatalf("%s holds %q:\n%s", name, word, text)
		}
	}
}

// apply runs the program in this process, as the scripts do in one of its own.
func apply(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runHere(t, "", append([]string{"apply"}, args...)...)
}

// runHere runs any command so, on the hub of a connection string.
func runHere(t *testing.T, connection string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	state := t.TempDir()
	getenv := func(name string) string {
		return map[string]string{connectionStringVar: connection, "XDG_STATE_HOME": state}[name]
	}
	code = run(args, environment{getenv: getenv, stdin: strings.NewReader(""), stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

package emulator

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
)

// What follows was found by trying to bring a hub down, each with the attack
// that worked.

// TestClaimBeforeHello has strangers announce large packets: the broker makes
// room for what is announced.
func TestClaimBeforeHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		for name, tt := range map[string]struct {
			sent []string
			ends bool
		}{
			"a large packet":            {[]string{"\x10\xff\xff\x10"}, true},
			"byte by byte":              {[]string{"\x10", "\xff", "\xff", "\x10"}, true},
			"no end of the length":      {[]string{"\x10\xff\xff\xff\xff\xff"}, true},
			"another packet":            {[]string{"\x30\x05"}, true},
			"one byte too many":         {[]string{"\x10\x81\x80\x02"}, true},
			"as much as a device may":   {[]string{"\x10\x80\x80\x02\x00"}, false},
			"not even the whole length": {[]string{"\x10\x80"}, false},
		} {
			d := h.dial(t, "d")
			start := time.Now()
			for _, s := range tt.sent {
				if _, err := d.conn.Write([]byte(s)); err != nil {
					break // hung up already
				}
			}
			d.hungUp()
			want := devices.ConnectDeadline
			if tt.ends {
				want = 0
			}
			same(t, name, time.Since(start), want)
		}
		// A device that has said hello sends what it likes.
		d := h.online(t, "d")
		d.publish("devices/d/messages/events/", strings.Repeat("x", devices.MaxDeviceMessage), 1)
	})
}

// TestKeysWithoutNumber writes patches of many keys. What took the square of
// their number, walking the keys for each, was ten seconds' work for one request.
func TestKeysWithoutNumber(t *testing.T) {
	h := newHub(t, doors)
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in every run
	want := map[string]any{"building": 43.0, "floor": 1.0}
	for round := range 30 {
		patch := map[string]any{}
		for range 1 + rnd.IntN(4*twindoc.ManyKeys) {
			key := fmt.Sprintf("k%d", rnd.IntN(6*twindoc.ManyKeys))
			switch rnd.IntN(3) {
			case 0:
				patch[key] = nil
				delete(want, key)
			default:
				patch[key], want[key] = float64(round), float64(round)
			}
		}
		text, err := json.Marshal(map[string]any{"tags": patch})
		if err != nil {
			t.Fatal(err)
		}
		h.do(t, "PATCH", "/twins/door-0001", string(text)).want(t, 200)
		same(t, "tags", h.do(t, "GET", "/twins/door-0001", "").doc(t)["tags"], any(want))
	}
	var n twindoc.Node
	var x twindoc.KeyIndex
	for i := range 10 * twindoc.ManyKeys {
		x.Put(&n, twindoc.Node{Key: fmt.Sprint(i % (2 * twindoc.ManyKeys)), Raw: fmt.Sprint(i)})
	}
	same(t, "keys", len(n.Kids), 2*twindoc.ManyKeys)
	same(t, "the last of one key wins", n.Kids[0].Raw, fmt.Sprint(8*twindoc.ManyKeys))
	if len(x.Places) != len(n.Kids) {
		t.Errorf("%d of %d keys are found without walking", len(x.Places), len(n.Kids))
	}
}

// pipeListener hands connections to a server that were made by dial.
type pipeListener struct {
	conns chan net.Conn
	done  context.Context
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done.Done():
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// overPipes serves a hub's API over pipes, so that its deadlines run on the
// time of a bubble. It returns what makes a connection.
func overPipes(t *testing.T, h testHub) (dial func() net.Conn) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &pipeListener{conns: make(chan net.Conn), done: ctx}
	srv := h.httpServer()
	done := make(chan struct{})
	go func() { // ends with the listener, awaited below
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		stop()
		srv.Close()
		<-done
	})
	return func() net.Conn {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		t.Cleanup(func() { ours.Close() })
		return ours
	}
}

// TestSlowRequests holds connections by sending next to nothing: each must end.
func TestSlowRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors)
		dial := overPipes(t, h)
		head := func(auth string, length int) string {
			return fmt.Sprintf("POST /twins/door-0001/methods?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n", auth, length)
		}
		for name, tt := range map[string]struct {
			sent string
			most time.Duration
		}{
			"nothing":                                {"", headerDeadline},
			"half a header":                          {"POST /twins/x HTTP/1.1\r\nHost: lo", headerDeadline},
			"no body, from a stranger":               {head("x", 100_000), bodyDeadline},
			"no body at all, from a stranger":        {head("x", 10), bodyDeadline},
			"no body, from a client":                 {head(h.token, 100_000), bodyDeadline},
			"a small body that stops, from a client": {head(h.token, 100) + "{", bodyDeadline},
		} {
			c := dial()
			start := time.Now()
			if _, err := io.WriteString(c, tt.sent); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, c) // until the hub hangs up
			if took := time.Since(start); took > tt.most+time.Second {
				t.Errorf("%s: the connection is held for %v, want at most %v", name, took, tt.most)
			}
		}
		// A call that takes long is not cut short by any of that.
		c := dial()
		body := `{"methodName":"lockDoor","connectTimeoutInSeconds":200,"responseTimeoutInSeconds":300}`
		if err := h.SetOnline("door-0001", false); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		io.WriteString(c, head(h.token, len(body))+body)
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		same(t, "a slow call", []any{r.StatusCode, time.Since(start).Round(time.Second)}, []any{404, 200 * time.Second})
	})
}

// TestAnswerThatNobodyReads must not stay in memory for ever.
func TestAnswerThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors)
		dial := overPipes(t, h)
		for i := range 100 {
			h.do(t, "PATCH", fmt.Sprintf("/twins/door-%04d", i+1), `{"tags":{"x":"`+strings.Repeat("x", 4000)+`"}}`).want(t, 200)
		}
		for _, tt := range []struct {
			encoding string
			devices  int // twenty, zipped, are less than the server's own buffer
		}{{"identity", 100}, {"gzip", 100}, {"gzip", 20}} {
			c := dial()
			encoding, body := tt.encoding, `{"query":"SELECT * FROM devices"}`
			fmt.Fprintf(c, "POST /devices/query?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nx-ms-max-item-count: %d\r\nAccept-Encoding: %s\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", tt.devices, encoding, h.token, len(body), body)
			time.Sleep(answerDeadline + time.Second)
			start := time.Now()
			n, _ := io.Copy(io.Discard, c)
			if time.Since(start) > 0 || n > largeAnswer && encoding == "identity" {
				t.Errorf("%s: after the deadline %d bytes came in %v", encoding, n, time.Since(start))
			}
		}
	})
}

// TestJobsWithoutNumber schedules jobs with large patches that start some day.
func TestJobsWithoutNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, doors)
		tags := `{"a":"` + strings.Repeat("x", 4000) + `"` + strings.Repeat(" ", 490_000) + `}`
		job := func(id, start string) answer {
			return h.do(t, "PUT", "/jobs/v2/"+id, `{"type":"scheduleUpdateTwin"`+start+`,"updateTwin":{"etag":"*","tags":`+tags+`},"queryCondition":"deviceId='door-0001'"}`)
		}
		later := `,"startTime":"` + h.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"`
		n := 0
		for ; n < 1000; n++ {
			if a := job(fmt.Sprint("later-", n), later); a.status != 200 {
				a.refused(t, 403, "JobQuotaExceeded")
				break
			}
		}
		if n < 50 || n > 100 {
			t.Errorf("the hub takes %d jobs of half a megabyte", n)
		}
		time.Sleep(2 * time.Hour) // they have run, and can be forgotten
		for i := range 120 {
			job(fmt.Sprint("now-", i), "").want(t, 200)
			time.Sleep(time.Second)
		}
		if got := len(h.schedules.Since(0)); got > 100 {
			t.Errorf("the hub remembers %d jobs of half a megabyte", got)
		}
		h.do(t, "GET", "/jobs/v2/now-119", "").want(t, 200)
		for _, j := range h.schedules.Since(0) {
			if j.Write.Tags.Doc != nil {
				t.Fatal("a job that has ended keeps its patch taken apart")
			}
		}
	})
}

// TestWritesUnderALag keeps what queries still show, but not any number of it.
func TestWritesUnderALag(t *testing.T) {
	h := newHub(t, doors)
	h.SetIndexLag(time.Hour)
	for i := range 10 * store.MaxRemembered {
		h.do(t, "PATCH", "/twins/door-0001", fmt.Sprintf(`{"tags":{"n":%d}}`, i)).want(t, 200)
	}
	d, _ := h.Store.Find("door-0001")
	n := 0
	for r := d.Rec; r != nil && n < 1000; r = r.Prev.Load() {
		if n++; r.Prev.Load() == r {
			break
		}
	}
	if n > store.MaxRemembered+1 {
		t.Errorf("a device that was written to %d times keeps %d records", 10*store.MaxRemembered, n)
	}
	rows, _ := h.pages(t, "SELECT tags.n FROM devices WHERE tags.n >= 0")
	if len(rows) != 1 { // it lags as far as it can
		t.Errorf("a query sees %v", rows)
	}
	h.SetIndexLag(0)
	rows, _ = h.pages(t, fmt.Sprintf("SELECT deviceId FROM devices WHERE tags.n = %d", 10*store.MaxRemembered-1))
	same(t, "rows without a lag", len(rows), 1)
}

// TestLongTokensAreNotKept fills fields that nobody reads.
func TestLongTokensAreNotKept(t *testing.T) {
	h := newHub(t, doors)
	h.do(t, "GET", "/twins/door-0001", "").want(t, 200)
	kept := len(h.grants.Grants)
	for i := range 10 {
		h.do(t, "GET", "/twins/door-0001", "", "Authorization", h.token+fmt.Sprintf("&x%d=", i)+strings.Repeat("x", access.MaxKept)).want(t, 200)
	}
	same(t, "tokens kept", len(h.grants.Grants), kept)
}

// TestManyConnectionsOfOneDevice takes itself over again and again, and does not
// read what it is sent; nothing of it may stay.
func TestManyConnectionsOfOneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		for range 200 {
			d := h.online(t, "d")
			d.subscribe(1, devices.MethodsTopic+"#", devices.TwinAnswersTopic+"#", "x/#", "$share/a/"+devices.MethodsTopic+"#")
		}
		synctest.Wait()
		same(t, "clients of the broker", h.front.Broker().Clients.Len(), 1)
		same(t, "connections", len(h.front.Open), 1)
		same(t, "links", len(h.Links.Live), 1)
		same(t, "subscriptions", int(h.front.Broker().Info.Subscriptions), 2)
	})
}

// TestIdleDeviceTakesLittle counts what a connected device costs that the hub
// has nothing for: its queue used to be made in full.
func TestIdleDeviceTakesLittle(t *testing.T) {
	h := newHub(t, "")
	const n = 200
	for i := range n {
		h.do(t, "PUT", fmt.Sprintf("/devices/d%d", i), "{}").want(t, 200)
	}
	h.online(t, "d0") // makes the broker
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		h.online(t, fmt.Sprintf("d%d", i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const most = 160 << 10 // most of it is the test's own end
	if each := (int(after.HeapAlloc) - int(before.HeapAlloc)) / n; each > most {
		t.Errorf("a connected device takes %d bytes, want at most %d", each, most)
	}
}

// TestFrameWithoutEnd begins a frame of a web socket and never ends it.
func TestFrameWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := trio(t)
		dial := overPipes(t, h)
		for name, frame := range map[string]string{
			"none":                     "",
			"a header":                 "\x82",
			"part of a frame":          "\x82\xfe\xff\xff\x00\x00\x00\x00\x10",
			"a frame beyond the limit": "\x82\xff\x00\x00\x7f\xff\xff\xff\xff\xff\x00\x00\x00\x00",
			"empty frames":             strings.Repeat("\x02\x80\x00\x00\x00\x00", 100),
		} {
			c := dial()
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", devices.WebsocketPath)
			r := bufio.NewReader(c)
			answer, err := http.ReadResponse(r, nil)
			if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%s: %v, %v", name, answer, err)
			}
			answer.Body.Close() // the connection goes on without it
			start := time.Now()
			go io.WriteString(c, frame) // ends with the connection
			io.Copy(io.Discard, r)
			if took := time.Since(start); took > devices.ConnectDeadline {
				t.Errorf("%s: the connection is held for %v", name, took)
			}
		}
	})
}

package hubtest_test

import (
	"bufio"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	contractPolicy = "service"
	contractKey    = "a2V5IG9mIHRoZSBjb250cmFjdA=="
	// cutResponse in place of a response ends the connection after the request
	// was read.
	cutResponse = "(the connection ends)"
)

// playback is a hub that knows one answer at a time and remembers what it was
// asked.
type playback struct {
	server *httptest.Server
	mu     sync.Mutex
	next   string   // the response to give; guarded by mu
	asked  []string // requests in the form of the files; guarded by mu
}

func newPlayback(t *testing.T) *playback {
	t.Helper()
	p := &playback{}
	p.server = httptest.NewTLSServer(p)
	t.Cleanup(p.server.Close)
	return p
}

func (p *playback) host() string { return strings.TrimPrefix(p.server.URL, "https://") }

func (p *playback) connectionString() string {
	return "HostName=" + p.host() + ";SharedAccessKeyName=" + contractPolicy + ";SharedAccessKey=" + contractKey
}

// expect sets the next answer and forgets what was asked before.
func (p *playback) expect(response string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.asked = response, nil
}

func (p *playback) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func (p *playback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, err := describeRequest(r)
	if err != nil {
		text = "unreadable request: " + err.Error()
	}
	p.asked = append(p.asked, text)
	if strings.TrimSpace(p.next) == cutResponse {
		panic(http.ErrAbortHandler)
	}
	if err := writeResponse(w, p.next); err != nil {
		http.Error(w, "contract file: "+err.Error(), http.StatusTeapot)
	}
}

// describeRequest gives a request the form that it has in the files: headers
// sorted, and what differs from run to run replaced after it was checked.
func describeRequest(r *http.Request) (string, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	if r.ContentLength != int64(len(body)) {
		return "", fmt.Errorf("announced %d bytes, sent %d", r.ContentLength, len(body))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\n", r.Method, r.RequestURI, r.Proto)
	header := maps.Clone(r.Header)
	header.Del("Content-Length")
	header["Host"] = []string{"{host}"}
	token, err := describeToken(header.Get("Authorization"), time.Now())
	if err != nil {
		return "", err
	}
	header.Set("Authorization", token)
	for _, key := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[key] {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	if len(body) > 0 {
		fmt.Fprintf(&b, "\n%s\n", body)
	}
	return b.String(), nil
}

// describeToken verifies a shared access signature as the hub does, over sr as
// it was received, and gives it with its fields in one order.
func describeToken(token string, now time.Time) (string, error) {
	fields, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	if !ok {
		return "", fmt.Errorf("authorization %q is no shared access signature", token)
	}
	raw := map[string]string{}
	for pair := range strings.SplitSeq(fields, "&") {
		name, value, _ := strings.Cut(pair, "=")
		raw[name] = value
	}
	if keys := slices.Sorted(maps.Keys(raw)); !slices.Equal(keys, []string{"se", "sig", "skn", "sr"}) {
		return "", fmt.Errorf("token has the fields %v", keys)
	}
	key, err := base64.StdEncoding.DecodeString(contractKey)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(raw["sr"] + "\n" + raw["se"]))
	sig, err := url.QueryUnescape(raw["sig"])
	if err != nil || sig != base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
		return "", fmt.Errorf("the token's signature is wrong")
	}
	expiry, err := strconv.ParseInt(raw["se"], 10, 64)
	if err != nil || expiry <= now.Unix() || expiry > now.Add(24*time.Hour).Unix() {
		return "", fmt.Errorf("the token ends at %s", raw["se"])
	}
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig={sig}&se={se}&skn=%s", raw["sr"], raw["skn"]), nil
}

// writeResponse sends a response as it stands in a file. The file shows the
// body in clear, also where the header says that it is gzipped.
func writeResponse(w http.ResponseWriter, text string) error {
	head, body, _ := strings.Cut(text, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(head + "\n\n")))
	line, err := r.ReadLine()
	if err != nil {
		return err
	}
	_, code, _ := strings.Cut(line, " ")
	code, _, _ = strings.Cut(code, " ")
	status, err := strconv.Atoi(code)
	if err != nil {
		return fmt.Errorf("status line %q", line)
	}
	header, err := r.ReadMIMEHeader()
	if err != nil {
		return err
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(status)
	if header.Get("Content-Encoding") != "gzip" {
		_, err = io.WriteString(w, body)
		return err
	}
	z := gzip.NewWriter(w)
	if _, err := io.WriteString(z, body); err != nil {
		return err
	}
	return z.Close()
}

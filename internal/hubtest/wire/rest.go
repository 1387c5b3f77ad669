// Package wire speaks a hub's protocols word by word, for tests that care
// about the words: it adds nothing to a request, retries nothing and hides
// nothing of an answer.
//
// It is a third reading of the protocol, beside the client's and the
// emulator's, and shares code with neither.
package wire

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// APIVersion is the version that a request names which names no other.
const APIVersion = "2021-04-12"

// Hub is a hub and what a policy of it may do there.
type Hub struct {
	Host     string // with its port, if it has one
	Policy   string
	Key      string // base64
	MQTTAddr string
	TLS      *tls.Config // nil for the system's authorities

	once   sync.Once
	client *http.Client
}

// Parse reads a service connection string.
func Parse(connectionString string) (*Hub, error) {
	fields := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimSpace(connectionString), ";") {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return nil, errors.New("connection string: want fields of the form name=value, parted by semicolons")
		}
		fields[name] = value
	}
	h := &Hub{Host: fields["HostName"], Policy: fields["SharedAccessKeyName"], Key: fields["SharedAccessKey"]}
	if h.Host == "" || h.Policy == "" || h.Key == "" {
		return nil, errors.New("connection string: want HostName, SharedAccessKeyName and SharedAccessKey")
	}
	h.MQTTAddr = net.JoinHostPort(h.Name(), "8883")
	return h, nil
}

// Name is the host without its port.
func (h *Hub) Name() string {
	name, _, _ := strings.Cut(h.Host, ":")
	return name
}

// Token signs for a resource with any key. A device's own key has no policy.
func Token(resource, key, policy string, ends time.Time) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return "", errors.New("sign a token: the key is not base64") // the key itself stays out
	}
	sr, se := url.QueryEscape(resource), strconv.FormatInt(ends.Unix(), 10)
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte(sr + "\n" + se))
	token := "SharedAccessSignature sr=" + sr + "&sig=" + url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))) + "&se=" + se
	if policy != "" {
		token += "&skn=" + policy
	}
	return token, nil
}

// Request is a request as it goes out.
type Request struct {
	Verb   string
	Path   string // escaped, with its query; an api-version is added if it names none
	Body   string
	Header map[string]string // "Authorization" replaces the token, an empty value leaves a header out
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Name is the hub's name for an error: from the header, or from the text.
func (a Answer) Name() string {
	if name := a.Header.Get("Iothub-Errorcode"); name != "" {
		return name
	}
	_, rest, _ := strings.Cut(string(a.Body), "ErrorCode:")
	name, _, _ := strings.Cut(rest, ";")
	return name
}

// Code is the hub's number for an error of a method, 0 if it gives none.
func (a Answer) Code() int { return a.inner().Code }

// Waited is how long the hub says that it waited for a device.
func (a Answer) Waited() string { return a.inner().Info.Timeout }

type innerError struct {
	Code int `json:"errorCode"`
	Info struct {
		Timeout string `json:"timeout"`
	} `json:"info"`
}

// inner reads the JSON inside the message of a method's error.
func (a Answer) inner() innerError {
	var outer struct {
		Message string `json:"Message"`
	}
	var inner innerError
	if json.Unmarshal(a.Body, &outer) == nil {
		_ = json.Unmarshal([]byte(outer.Message), &inner) // other errors have plain text there
	}
	return inner
}

// Doc is the body as an object, nil if it is none.
func (a Answer) Doc() map[string]any {
	var doc map[string]any
	if json.Unmarshal(a.Body, &doc) != nil {
		return nil
	}
	return doc
}

// Rows is the body as a list of objects, nil if it is none.
func (a Answer) Rows() []map[string]any {
	var rows []map[string]any
	if json.Unmarshal(a.Body, &rows) != nil {
		return nil
	}
	return rows
}

// maxAnswer bounds an answer.
const maxAnswer = 16 << 20

// Do makes one request, signed by the hub's policy.
func (h *Hub) Do(ctx context.Context, r Request) (Answer, error) {
	path := r.Path
	if !strings.Contains(path, "api-version=") {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		path += sep + "api-version=" + APIVersion
	}
	req, err := http.NewRequestWithContext(ctx, r.Verb, "https://"+h.Host+path, strings.NewReader(r.Body))
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", r.Verb, r.Path, err)
	}
	token, err := Token(h.Host, h.Key, h.Policy, time.Now().Add(time.Hour))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Authorization", token)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	for name, value := range r.Header {
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	res, err := h.httpClient().Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", r.Verb, r.Path, err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read to its end, or that is the error
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: read the answer: %w", r.Verb, r.Path, err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}

func (h *Hub) httpClient() *http.Client {
	h.once.Do(func() {
		h.client = &http.Client{Transport: &http.Transport{TLSClientConfig: h.TLS, Proxy: http.ProxyFromEnvironment}}
	})
	return h.client
}

// Close closes the connections that are kept.
func (h *Hub) Close() {
	h.httpClient().CloseIdleConnections()
}

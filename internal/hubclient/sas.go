package hubclient

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amenzhinsky/iothub/common"
)

// tokenLife is how long a token is good for. It is renewed after three
// quarters of that, so that a clock which is minutes off does no harm.
const tokenLife = time.Hour

// ConnectionString is that of a shared access policy. Its String shows no key.
type ConnectionString struct {
	HostName string // with its port, if one was given
	KeyName  string
	key      string
}

// String returns the connection string without its key.
func (c ConnectionString) String() string {
	return "HostName=" + c.HostName + ";SharedAccessKeyName=" + c.KeyName + ";SharedAccessKey=***"
}

// GoString keeps the key out of %#v too.
func (c ConnectionString) GoString() string { return c.String() }

// ParseConnectionString reads the connection string of a shared access policy.
// Its errors never quote the value: it holds a key.
func ParseConnectionString(s string) (ConnectionString, error) {
	fields, err := common.ParseConnectionString(trimFields(s))
	if err != nil {
		return ConnectionString{}, errors.New("connection string is not of the form HostName=...;SharedAccessKeyName=...;SharedAccessKey=(key)")
	}
	if fields["DeviceId"] != "" {
		return ConnectionString{}, errors.New("connection string is that of a device; the one of a shared access policy is needed (with SharedAccessKeyName)")
	}
	for _, name := range []string{"HostName", "SharedAccessKeyName", "SharedAccessKey"} {
		if fields[name] == "" {
			return ConnectionString{}, fmt.Errorf("connection string has no %s", name)
		}
	}
	cs := ConnectionString{HostName: canonicalHost(fields["HostName"]), KeyName: fields["SharedAccessKeyName"], key: fields["SharedAccessKey"]}
	if err := checkHost(cs.HostName); err != nil {
		return ConnectionString{}, err
	}
	if _, err := base64.StdEncoding.DecodeString(cs.key); err != nil {
		return ConnectionString{}, errors.New("connection string: SharedAccessKey is not base64; was it cut off when it was copied?")
	}
	return cs, nil
}

// trimFields takes out the blanks and line breaks that copying adds.
func trimFields(s string) string {
	fields := strings.Split(s, ";")
	for i, f := range fields {
		name, value, ok := strings.Cut(f, "=")
		fields[i] = strings.TrimSpace(name)
		if ok {
			fields[i] += "=" + strings.TrimSpace(value)
		}
	}
	return strings.Join(fields, ";")
}

// canonicalHost writes a host name in the one way in which locks, journals and
// reports have it: DNS knows no letter case, and needs neither the dot of its
// root nor the port that everybody takes.
func canonicalHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	name, port, found := strings.Cut(host, ":")
	name = strings.TrimSuffix(name, ".")
	if found {
		return name + ":" + port
	}
	return name
}

// hostOf checks the name of a hub that came without a connection string.
func hostOf(name string) (string, error) {
	host := canonicalHost(strings.TrimSpace(name))
	if err := checkHost(host); err != nil {
		return "", errors.New(strings.Replace(err.Error(), "connection string: HostName", "the hub's name", 1))
	}
	return host, nil
}

// checkSASToken refuses what is no signature, or that of a device.
func checkSASToken(text string) error {
	if !strings.HasPrefix(text, "SharedAccessSignature ") || !strings.Contains(text, "sig=") || !strings.Contains(text, "sr=") {
		return errors.New("the token is not of the form SharedAccessSignature sr=(hub)&sig=(signature)&se=(time)&skn=(policy)")
	}
	if strings.ContainsAny(text, "\r\n") {
		return errors.New("the token has a line break in it")
	}
	return nil
}

// checkHost quotes what it refuses without what looks like a key: when the
// fields run into one another, the host name holds them all.
func checkHost(host string) error {
	shown := redact(host)
	name := host
	if strings.Contains(host, ":") {
		h, port, err := net.SplitHostPort(host)
		if err != nil {
			return fmt.Errorf("connection string: HostName %q is not a host or host:port", shown)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("connection string: HostName %q has a port outside 1..65535", shown)
		}
		name = h
	}
	if name == "" || strings.ContainsAny(name, "/ @?#,=\t\r\n\"'\\") {
		return fmt.Errorf("connection string: HostName %q is not a host name", shown)
	}
	return nil
}

// token is a signed token and what we learned of it.
type token struct {
	text     string
	renewAt  time.Time
	accepted atomic.Bool       // the hub has taken it at least once
	heir     bool              // the hub has taken one before it
	secrets  *strings.Replacer // puts *** where the signature or the key stands
}

// hide takes our own secrets out of a text of the hub's, wherever they stand:
// a gateway that echoes a request need not do so in a form that redact knows.
func (t *token) hide(text string) string { return t.secrets.Replace(text) }

// signed is what a signer makes.
type signed struct {
	text    string    // of the Authorization header
	renewAt time.Time // when another one should take its place
	secrets []string  // that must not be shown, besides the text
}

// credential has a token made once and renews it before it ends.
type credential struct {
	sign func(now time.Time) (signed, error)

	cached atomic.Pointer[token]
	// refusedSince is when the hub first refused a token after it had last taken
	// one, in nanoseconds since 1970; 0 if it has not.
	refusedSince atomic.Int64
	mu           sync.Mutex // held while signing, so that one renewal serves all
}

// withKey signs with the key of a shared access policy.
func withKey(cs ConnectionString) *credential {
	host := cs.HostName
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h // a port is ours, not part of the resource that the key opens
	}
	key := common.NewSharedAccessKey(host, cs.KeyName, cs.key)
	return &credential{sign: func(now time.Time) (signed, error) {
		sas, err := common.NewSharedAccessSignature(host, key.SharedAccessKeyName, key.SharedAccessKey, now.Add(tokenLife))
		if err != nil {
			return signed{}, errors.New("the shared access key cannot be used")
		}
		return signed{text: sas.String(), renewAt: now.Add(tokenLife * 3 / 4), secrets: []string{sas.Sig, key.SharedAccessKey}}, nil
	}}
}

// withToken uses a signature that somebody else has made. It cannot be renewed.
func withToken(text string) *credential {
	_, sig, _ := strings.Cut(text, "sig=")
	sig, _, _ = strings.Cut(sig, "&")
	plain, err := url.QueryUnescape(sig)
	if err != nil {
		plain = sig
	}
	return &credential{sign: func(now time.Time) (signed, error) {
		return signed{text: text, renewAt: now.Add(tokenLife), secrets: []string{plain, sig}}, nil
	}}
}

// TokenSource gets a token of Entra ID for the hub, and says until when it is good.
type TokenSource func(ctx context.Context) (token string, expires time.Time, err error)

// withSource asks for a token of Entra ID whenever one is about to end.
func withSource(source TokenSource) *credential {
	return &credential{sign: func(now time.Time) (signed, error) {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		text, expires, err := source(ctx)
		if err != nil {
			return signed{}, err
		}
		life := expires.Sub(now)
		return signed{text: "Bearer " + text, renewAt: now.Add(max(life*3/4, time.Second)), secrets: []string{text}}, nil
	}}
}

// current returns the token to use at the time now.
func (s *credential) current(now time.Time) (*token, error) {
	if t := s.cached.Load(); t != nil && now.Before(t.renewAt) {
		return t, nil
	}
	return s.renew(s.cached.Load(), now)
}

// renew replaces the token old, unless somebody did so already.
func (s *credential) renew(old *token, now time.Time) (*token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.cached.Load(); t != nil && t != old {
		return t, nil
	}
	made, err := s.sign(now)
	if err != nil {
		return nil, err
	}
	var hidden []string
	for _, secret := range made.secrets {
		if secret != "" {
			hidden = append(hidden, secret, "***", url.QueryEscape(secret), "***")
		}
	}
	t := &token{
		text: made.text, renewAt: made.renewAt, secrets: strings.NewReplacer(hidden...),
		heir: old != nil && (old.heir || old.accepted.Load()),
	}
	s.cached.Store(t)
	return t, nil
}

// accept notes that the hub has taken a token.
func (s *credential) accept(t *token) {
	t.accepted.Store(true)
	if s.refusedSince.Load() != 0 {
		s.refusedSince.Store(0)
	}
}

// A hub that refuses some calls takes others meanwhile. If it takes none for
// as long as doubtLasts, our tokens are taken for wrong, until when each refused
// call is worth another try after doubtPause.
const (
	doubtPause = time.Second
	doubtLasts = 3 * time.Second
)

// mayHaveExpired tells whether a call whose token was refused is worth another
// try, and after which time. A token that the hub has taken before was right
// then, and is replaced if it could be too old. One that took its place may only
// be the first to meet whatever refused the other. One that is the first of all
// is wrong, and a new one would be too.
func (s *credential) mayHaveExpired(t *token, status int, now time.Time) (wait time.Duration, ok bool) {
	accepted := t.accepted.Load()
	if status != http.StatusUnauthorized || !accepted && !t.heir {
		return 0, false
	}
	s.refusedSince.CompareAndSwap(0, now.UnixNano())
	if accepted {
		_, err := s.renew(t, now)
		return 0, err == nil
	}
	return doubtPause, now.UnixNano()-s.refusedSince.Load() < int64(doubtLasts)
}

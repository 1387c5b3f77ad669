package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/amenzhinsky/iothub/common"
	"github.com/golang-jwt/jwt/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/target"
)

const (
	tenant   = "11111111-2222-3333-4444-555555555555"
	identity = "99999999-8888-7777-6666-555555555555"
)

// authority issues tokens as Entra ID does: a workload hands in what its platform gave
// it, and gets a token that this authority has signed.
type authority struct {
	*httptest.Server

	key    *rsa.PrivateKey
	claims jwt.MapClaims // of the next tokens; the test changes them
	issued atomic.Int64
}

// helper is a test, or a script.
type helper interface {
	Fatalf(format string, args ...any)
}

func newAuthority(t helper) *authority {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	a := &authority{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+tenant+"/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":"%s/%s/oauth2/v2.0/token","authorization_endpoint":"%s/%s/authorize"}`, a.issuer(), a.URL, tenant, a.URL, tenant)
	})
	mux.HandleFunc("POST /"+tenant+"/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_assertion") != "what-the-platform-gave" || r.FormValue("scope") == "" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"AADSTS700211: no matching federated identity"}`)
			return
		}
		a.issued.Add(1)
		fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3600,"access_token":%q}`, a.sign(t, jwt.SigningMethodRS256, a.claims, "k1"))
	})
	a.Server = httptest.NewTLSServer(mux)
	a.claims = a.good()
	return a
}

func (a *authority) issuer() string { return a.URL + "/" + tenant + "/v2.0" }

// good are the claims of a token that a hub takes.
func (a *authority) good() jwt.MapClaims {
	now := time.Now()
	return jwt.MapClaims{"iss": a.issuer(), "aud": access.Audience, "tid": tenant, "oid": identity, "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()}
}

func (a *authority) sign(t helper, method jwt.SigningMethod, claims jwt.MapClaims, kid string) string {
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = kid
	var key any = a.key
	switch method {
	case jwt.SigningMethodHS256:
		key = a.key.N.Bytes() // what is public, as if it were a secret
	case jwt.SigningMethodNone:
		key = jwt.UnsafeAllowNoneSignatureType
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatalf("sign a token: %v", err)
	}
	return text
}

// entra is what a hub believes of the authority. It writes a file into dir.
func (a *authority) entra(t helper, dir string, roles map[string]string) *access.Entra {
	b64 := base64.RawURLEncoding.EncodeToString
	jwks, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "use": "sig", "kid": "k1", "n": b64(a.key.N.Bytes()), "e": b64(big.NewInt(int64(a.key.E)).Bytes()),
	}}})
	file := filepath.Join(dir, "jwks.json")
	if err == nil {
		err = os.WriteFile(file, jwks, 0o600)
	}
	if err != nil {
		t.Fatalf("write the keys: %v", err)
	}
	e, err := access.OpenEntra(a.issuer(), file, roles)
	if err != nil {
		t.Fatalf("OpenEntra: %v", err)
	}
	return e
}

// hub starts a hub that believes the authority.
func (a *authority) hub(t *testing.T, roles map[string]string) *emulator.Server {
	t.Helper()
	t.Cleanup(a.Close)
	s, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: fleet.Default(), Entra: a.entra(t, t.TempDir(), roles)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// certificates are those of the authority and of a hub.
func (a *authority) certificates(s *emulator.Server) []byte {
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw}), s.CAPEM()...)
}

// trusts writes a file of the certificates of both.
func (a *authority) trusts(t *testing.T, s *emulator.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, a.certificates(s), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// cmdEntra is "entra start [FLEET]": it makes a hub that takes no key but tokens of an
// authority of its own, and gives the script's programs the identity of a workload.
func cmdEntra(ts *testscript.TestScript, _ bool, args []string) {
	a := newAuthority(ts)
	ts.Defer(a.Close)
	devices := fleet.Default()
	if len(args) > 1 {
		f, err := fleet.Parse(args[1], []byte(ts.ReadFile(args[1])))
		ts.Check(err)
		devices = f
	}
	s, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: devices, Entra: a.entra(ts, ts.MkAbs("."), nil)})
	ts.Check(err)
	ts.Defer(func() { _ = s.Close() })
	made.Store(key(ts.Name()+" hub"), s)
	ca, token := ts.MkAbs("entra-ca.pem"), ts.MkAbs("workload-token")
	ts.Check(os.WriteFile(ca, a.certificates(s), 0o600))
	ts.Check(os.WriteFile(token, []byte("what-the-platform-gave"), 0o600))
	for name, value := range map[string]string{
		"SSL_CERT_FILE": ca, "HUB": s.HostName(), "AZURE_AUTHORITY_HOST": a.URL, "AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": identity, "AZURE_FEDERATED_TOKEN_FILE": token,
	} {
		ts.Setenv(name, value)
	}
}

// workload sets the environment of a workload with an identity.
func (a *authority) workload(t *testing.T, assertion string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(assertion), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AZURE_AUTHORITY_HOST": a.URL, "AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": identity, "AZURE_FEDERATED_TOKEN_FILE": file,
		"HTTPS_PROXY": "", "https_proxy": "",
	} {
		t.Setenv(name, value)
	}
}

// TestEntraTokens has the hub judge tokens of every kind, each sent as it is.
func TestEntraTokens(t *testing.T) {
	a := newAuthority(t)
	s := a.hub(t, nil)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CAPEM())
	change := func(key string, value any) jwt.MapClaims {
		c := a.good()
		c[key] = value
		return c
	}
	for _, tt := range []struct {
		name   string
		token  string
		status int
	}{
		{"good", a.sign(t, jwt.SigningMethodRS256, a.good(), "k1"), 200},
		{"another audience", a.sign(t, jwt.SigningMethodRS256, change("aud", "https://management.azure.com"), "k1"), 401},
		{"expired", a.sign(t, jwt.SigningMethodRS256, change("exp", time.Now().Add(-time.Minute).Unix()), "k1"), 401},
		{"not yet", a.sign(t, jwt.SigningMethodRS256, change("nbf", time.Now().Add(time.Hour).Unix()), "k1"), 401},
		{"for ever", a.sign(t, jwt.SigningMethodRS256, jwt.MapClaims{"iss": a.issuer(), "aud": access.Audience}, "k1"), 401},
		{"another issuer", a.sign(t, jwt.SigningMethodRS256, change("iss", "https://login.example/v2.0"), "k1"), 401},
		{"another tenant", a.sign(t, jwt.SigningMethodRS256, change("tid", identity), "k1"), 401},
		{"a key that nobody has", a.sign(t, jwt.SigningMethodRS256, a.good(), "k2"), 401},
		{"another algorithm", a.sign(t, jwt.SigningMethodHS256, a.good(), "k1"), 401},
		{"no signature", a.sign(t, jwt.SigningMethodNone, a.good(), "k1"), 401},
		{"another signature", a.sign(t, jwt.SigningMethodRS256, a.good(), "k1")[:300] + "AAAA", 401},
		{"no token", "Bearer", 401},
	} {
		client := clientOf(t, s, roots, fixed(tt.token))
		_, err := client.Query(t.Context(), hub.Query{Text: "SELECT deviceId FROM devices", PageSize: 1})
		status := 200
		if err != nil {
			status = err.(*hub.Error).StatusCode //nolint:errorlint // the client's own
		}
		if status != tt.status {
			t.Errorf("%s: %d, %v; want %d", tt.name, status, err, tt.status)
		}
		if err != nil && len(tt.token) > 20 && strings.Contains(err.Error(), tt.token[len(tt.token)-20:]) {
			t.Errorf("%s: the token stands in %v", tt.name, err)
		}
	}
}

// TestEntra goes the whole way of a workload: the platform's token for one of the
// authority, and with that to the hub. What is missing is said by its name.
func TestEntra(t *testing.T) {
	for _, tt := range []struct {
		name      string
		assertion string
		role      string
		invoke    bool
		hint      string // of the first error
	}{
		{"contributor", "what-the-platform-gave", "IoT Hub Data Contributor", true, ""},
		{"reader", "what-the-platform-gave", "IoT Hub Data Reader", false, "give the identity the role IoT Hub Data Contributor"},
		{"no role", "what-the-platform-gave", "", false, "give the identity the role IoT Hub Data Contributor"},
		{"no identity", "something else", "IoT Hub Data Contributor", false, "run az login, or give this machine or workload an identity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAuthority(t)
			roles := map[string]string{"another": "IoT Hub Data Reader"}
			if tt.role != "" {
				roles[identity] = tt.role
			}
			s := a.hub(t, roles)
			a.workload(t, tt.assertion)
			env := environment{getenv: os.Getenv}
			c := connection{auth: authEntra, hostName: s.HostName(), caFile: a.trusts(t, s)}
			var log bytes.Buffer
			client, err := c.open(env, 4, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, queryErr := client.Query(t.Context(), hub.Query{Text: "SELECT deviceId FROM devices", PageSize: 1})
			_, invokeErr := client.Invoke(t.Context(), hub.Target{DeviceID: "myDevice"}, hub.Call{Method: "lockDoor", ResponseTimeout: 5 * time.Second})
			if (invokeErr == nil) != tt.invoke {
				t.Errorf("the method: %v, want it called: %t", invokeErr, tt.invoke)
			}
			if err = queryErr; err == nil {
				err = invokeErr
			}
			if tt.hint != "" && (err == nil || !strings.HasPrefix(hubHint(&target.HubError{Hub: "h", Err: err}), tt.hint)) {
				t.Errorf("the hint for %v is %q, want %q", err, hubHint(&target.HubError{Hub: "h", Err: err}), tt.hint)
			}
			if tt.invoke && a.issued.Load() != 1 {
				t.Errorf("%d tokens were issued for two calls", a.issued.Load())
			}
			if strings.Contains(log.String(), "eyJ") {
				t.Error("the log has a token in it")
			}
		})
	}
}

// fixed is a source of one token.
func fixed(token string) hubclient.TokenSource {
	return func(context.Context) (string, time.Time, error) { return token, time.Now().Add(time.Hour), nil }
}

func clientOf(t *testing.T, s *emulator.Server, roots *x509.CertPool, source hubclient.TokenSource) *hubclient.Client {
	t.Helper()
	c, err := hubclient.New(hubclient.Options{HostName: s.HostName(), Token: source, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A token that is about to end is replaced while a run lasts.
func TestEntraRenewal(t *testing.T) {
	a := newAuthority(t)
	s := a.hub(t, nil)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CAPEM())
	asked := 0
	client := clientOf(t, s, roots, func(context.Context) (string, time.Time, error) {
		asked++
		claims := a.good()
		claims["exp"] = time.Now().Add(time.Duration(asked) * time.Hour).Unix()
		return a.sign(t, jwt.SigningMethodRS256, claims, "k1"), time.Now().Add(time.Duration(asked-1) * time.Hour), nil // the first is over at once
	})
	for range 3 {
		if _, err := client.Twin(t.Context(), hub.Target{DeviceID: "myDevice"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // the least time that a token is kept
	}
	if asked != 2 {
		t.Errorf("%d tokens for three calls, of which the first was over soon", asked)
	}
}

// A signature that was made elsewhere opens the hub that it is for, as long as it lasts.
func TestSASToken(t *testing.T) {
	s, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: fleet.Default()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	_, key, _ := strings.Cut(s.ConnectionString(), "SharedAccessKey=")
	_, policy, _ := strings.Cut(s.ConnectionString(), "SharedAccessKeyName=")
	policy, _, _ = strings.Cut(policy, ";")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, s.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, life := range []time.Duration{time.Hour, -time.Hour} {
		sas, err := common.NewSharedAccessSignature("localhost", policy, key, time.Now().Add(life))
		if err != nil {
			t.Fatal(err)
		}
		env := environment{getenv: func(name string) string { return map[string]string{sasTokenVar: sas.String()}[name] }}
		c := connection{auth: "key", hostName: s.HostName(), caFile: ca}
		client, err := c.open(env, 2, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, err = client.Query(t.Context(), hub.Query{Text: "SELECT deviceId FROM devices", PageSize: 1})
		if (err == nil) != (life > 0) || err != nil && strings.Contains(err.Error(), sas.Sig) {
			t.Errorf("a token for %v: %v", life, err)
		}
	}
	for _, bad := range []string{"SharedAccessSignature sr=h", "Bearer x", "SharedAccessSignature sr=h&sig=x&se=1\nX: y"} {
		env := environment{getenv: func(name string) string { return map[string]string{sasTokenVar: bad}[name] }}
		if _, err := (connection{auth: "key", hostName: "h"}).open(env, 1, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("a token %q: no error", bad)
		}
	}
	if have := hostOfToken("SharedAccessSignature sr=contoso.azure-devices.net%2Fdevices&sig=x"); have != "contoso.azure-devices.net" {
		t.Errorf("the token is for %q", have)
	}
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/output"
	"iothub-runner/internal/target"
)

// connectionStringVar is the variable that the Azure samples use too.
const connectionStringVar = "IOTHUB_SERVICE_CONNECTION_STRING"

// connection is how the user says which hub to use.
type connection struct {
	stringFile string
	caFile     string
	auth       string // key, or entra
	hostName   string // of the hub; with entra or a token that has no hub in it

	trace    func(ctx context.Context) string // the traceparent header of a request; nil for none
	hub      string                           // of several, the one that is meant
	variable string                           // that has its connection string; empty for the usual one
}

// connectionString finds the hub's connection string. It is a secret, so it
// comes from the environment or from a file, never from a flag or a plan.
func (c connection) connectionString(env environment) (string, error) {
	if c.stringFile != "" {
		text, err := readFile(env, c.stringFile)
		if err == nil {
			text, err = oneString(text)
		}
		if err != nil {
			return "", &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("--connection-string-file %q: %w", c.stringFile, output.Reason(err)), Hint: "name a file that holds the connection string alone, or - for stdin"}
		}
		return string(text), nil
	}
	variable := cmp.Or(c.variable, connectionStringVar)
	if s := env.getenv(variable); s != "" {
		text, err := oneString([]byte(s))
		if err != nil {
			return "", &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("%s: %w", variable, err), Hint: "it is the connection string of one shared access policy"}
		}
		return string(text), nil
	}
	if c.hub != "" {
		return "", &exit.Error{
			Code: exit.Invalid, Err: fmt.Errorf("no connection string for hub %s: %s is not set", c.hub, variable),
			Hint: "set it to the connection string of a shared access policy of that hub that has service connect; hubs[].connectionStringEnv names the variable",
		}
	}
	return "", &exit.Error{
		Code: exit.Invalid, Err: errors.New("no hub given"),
		Hint: "set " + connectionStringVar + " to the connection string of a shared access policy that has service connect, " +
			"such as service, or name a file that holds it with --connection-string-file; " +
			"--emulator tries the plan without a hub",
	}
}

// exposed says that others can read the file of the connection string; empty if
// they cannot. Windows keeps that elsewhere.
func (c connection) exposed() string {
	if c.stringFile == "" || c.stringFile == "-" || runtime.GOOS == "windows" {
		return ""
	}
	info, err := os.Stat(c.stringFile)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("other users can read the connection string in %q (mode %04o); chmod 600 it, and renew the key if they should not have it", c.stringFile, info.Mode().Perm())
}

// oneString takes the connection string out of a file as editors and shells
// write one: with a byte order mark, with quotes, with line breaks around it.
func oneString(text []byte) ([]byte, error) {
	text, err := plainText(text)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(text)
	if n := len(text); n > 1 && text[0] == text[n-1] && (text[0] == '"' || text[0] == '\'') {
		text = bytes.TrimSpace(text[1 : n-1])
	}
	if n := bytes.Count(bytes.ToLower(text), []byte("hostname=")); n > 1 {
		return nil, fmt.Errorf("it holds %d connection strings, and only one can be meant", n)
	}
	return text, nil
}

// plainText takes off a byte order mark, and refuses a text that is not in UTF-8.
func plainText(text []byte) ([]byte, error) {
	marked := bytes.HasPrefix(text, []byte{0xFF, 0xFE}) || bytes.HasPrefix(text, []byte{0xFE, 0xFF})
	if marked || len(text) > 1 && (text[0] == 0 || text[1] == 0) {
		return nil, errors.New("it is in UTF-16; save it as UTF-8 (in PowerShell: Out-File -Encoding utf8)")
	}
	return bytes.TrimPrefix(text, []byte("\uFEFF")), nil
}

// proxyOf returns how to choose the proxy that the environment names. One that
// is no URL must not be passed over: the hub would be dialled directly.
func proxyOf(env environment) (func(*http.Request) (*url.URL, error), error) {
	get := func(name string) string {
		if v := env.getenv(name); v != "" {
			return v
		}
		return env.getenv(strings.ToLower(name))
	}
	proxy := get("HTTPS_PROXY")
	if proxy != "" {
		if err := checkProxy(proxy); err != nil {
			return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("HTTPS_PROXY %w (not shown, it may hold a password)", err), Hint: "write http://HOST:PORT, with special characters of a password as %XX, or unset it"}
		}
	}
	choose := (&httpproxy.Config{HTTPSProxy: proxy, NoProxy: get("NO_PROXY")}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }, nil
}

// checkProxy says what is wrong with the address of a proxy. One without a
// scheme is that of an HTTP proxy.
func checkProxy(text string) error {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("is no URL")
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme):
		return fmt.Errorf("has the scheme %q, which is none of http, https, socks5", u.Scheme)
	case u.Hostname() == "":
		return errors.New("names no host")
	}
	return nil
}

// open makes a client for the hub that the user means, with so many connections at
// most.
func (c connection) open(env environment, connections int, log *slog.Logger) (*hubclient.Client, error) {
	o := hubclient.Options{}
	var err error
	switch token := env.getenv(sasTokenVar); {
	case c.auth == authEntra:
		o.HostName = cmp.Or(c.hostName, c.hub)
		if o.HostName == "" {
			return nil, exit.Usage("--auth entra: which hub?", "name it with --hub HOST, or as hub.hostName in the plan")
		}
		web, webErr := c.webClient(env)
		if webErr != nil {
			return nil, webErr
		}
		o.Token, err = entraSource(env, web)
	case token != "" && c.stringFile == "" && env.getenv(cmp.Or(c.variable, connectionStringVar)) == "":
		o.SASToken = strings.TrimSpace(token)
		o.HostName = cmp.Or(c.hostName, c.hub, hostOfToken(o.SASToken))
	case c.hostName != "":
		return nil, exit.Usage("--hub goes with --auth entra, or with a signature in "+sasTokenVar, "a connection string names its hub")
	default:
		o.ConnectionString, err = c.connectionString(env)
		if text := c.exposed(); err == nil && text != "" {
			log.Warn(text)
		}
	}
	if err != nil {
		return nil, err
	}
	return c.client(env, o, connections, log)
}

// sasTokenVar has a shared access signature that was made elsewhere.
const sasTokenVar = "IOTHUB_SAS_TOKEN"

// hostOfToken is the hub that a shared access signature is for.
func hostOfToken(token string) string {
	_, resource, _ := strings.Cut(token, "sr=")
	resource, _, _ = strings.Cut(resource, "&")
	plain, err := url.QueryUnescape(resource)
	if err != nil {
		return ""
	}
	host, _, _ := strings.Cut(plain, "/")
	return host
}

// client makes a client that signs its requests as the options say.
func (c connection) client(env environment, o hubclient.Options, connections int, log *slog.Logger) (*hubclient.Client, error) {
	roots, proxy, err := c.way(env)
	if err != nil {
		return nil, err
	}
	o.Connections, o.RootCAs, o.Proxy, o.UserAgent, o.TraceParent, o.Log = connections, roots, proxy, "runner/"+version, c.trace, log
	client, err := hubclient.New(o)
	if err != nil {
		hint := "copy it from the hub's page in the Azure portal: Shared access policies, the policy, primary connection string"
		if o.ConnectionString == "" {
			hint = "the hub's name is as in contoso.azure-devices.net; a token is made by az iot hub generate-sas-token"
		}
		return nil, &exit.Error{Code: exit.Invalid, Err: err, Hint: hint}
	}
	return client, nil
}

// way is whom a connection trusts, and which proxy it takes.
func (c connection) way(env environment) (*x509.CertPool, func(*http.Request) (*url.URL, error), error) {
	roots, err := c.roots()
	if err != nil {
		return nil, nil, err
	}
	proxy, err := proxyOf(env)
	return roots, proxy, err
}

// roots returns the system's certificates and those of --ca-file, nil for the
// system's alone.
func (c connection) roots() (*x509.CertPool, error) {
	if c.caFile == "" {
		return nil, nil //nolint:nilnil // nil is what crypto/tls calls the system's roots
	}
	text, err := os.ReadFile(c.caFile)
	if err == nil {
		text, err = plainText(text)
	}
	if err != nil {
		return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("--ca-file %q: %w", c.caFile, output.Reason(err)), Hint: "name a PEM file of certificate authorities"}
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without roots of its own has those of the file
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("--ca-file %q holds no PEM certificate", c.caFile), Hint: "it looks like -----BEGIN CERTIFICATE-----"}
	}
	return roots, nil
}

// hubHint says what to do about a hub that cannot be used.
func hubHint(e *target.HubError) string {
	if hint := roleHint(e.Err); hint != "" {
		return hint
	}
	herr, ok := errors.AsType[*hub.Error](e.Err)
	if !ok {
		return ""
	}
	if herr.Kind == hub.KindUnauthorized || herr.Kind == hub.KindTokenExpired {
		return "the policy needs the right service connect, which service has; check that its key was copied whole and that this machine's clock is right"
	}
	if herr.Kind != hub.KindNotSent {
		return ""
	}
	if strings.Contains(herr.Error(), "certificate") {
		return "the hub's certificate is not trusted here; name its authority with --ca-file, or in SSL_CERT_FILE"
	}
	return "check HostName in the connection string, the network, and HTTPS_PROXY if there is a proxy"
}

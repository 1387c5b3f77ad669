package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
	"iothub-runner/runner"
)

// connectionStringVar is the variable that the Azure samples use too.
const connectionStringVar = "IOTHUB_SERVICE_CONNECTION_STRING"

// connection is how the user says which hub to use.
type connection struct {
	stringFile string
	caFile     string
}

// connectionString finds the hub's connection string. It is a secret, so it
// comes from the environment or from a file, never from a flag or a plan.
func (c connection) connectionString(env environment) (string, error) {
	if c.stringFile != "" {
		text, err := readFile(env, c.stringFile)
		if err != nil {
			return "", &failure{code: exitInvalid, err: fmt.Errorf("--connection-string-file %q: %w", c.stringFile, reason(err)), hint: "name a file that holds the connection string alone, or - for stdin"}
		}
		return strings.TrimSpace(string(text)), nil
	}
	if s := env.getenv(connectionStringVar); s != "" {
		return s, nil
	}
	return "", &failure{
		code: exitInvalid, err: errors.New("no hub given"),
		hint: "set " + connectionStringVar + " to the connection string of a shared access policy (service connect, " +
			"registry read and write), or name a file that holds it with --connection-string-file; " +
			"--emulator tries the plan without a hub",
	}
}

// client makes a client for the hub of the connection string.
func (c connection) client(connectionString string, connections int, log *slog.Logger) (*hubclient.Client, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	client, err := hubclient.New(hubclient.Options{
		ConnectionString: connectionString,
		Connections:      connections,
		RootCAs:          roots,
		Proxy:            http.ProxyFromEnvironment,
		UserAgent:        "runner/" + version,
		Log:              log,
	})
	if err != nil {
		return nil, &failure{
			code: exitInvalid, err: err,
			hint: "copy it from the hub's page in the Azure portal: Shared access policies, the policy, primary connection string",
		}
	}
	return client, nil
}

// roots returns the system's certificates and those of --ca-file, nil for the
// system's alone.
func (c connection) roots() (*x509.CertPool, error) {
	if c.caFile == "" {
		return nil, nil //nolint:nilnil // nil is what crypto/tls calls the system's roots
	}
	text, err := os.ReadFile(c.caFile)
	if err != nil {
		return nil, &failure{code: exitInvalid, err: fmt.Errorf("--ca-file %q: %w", c.caFile, reason(err)), hint: "name a PEM file of certificate authorities"}
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without roots of its own has those of the file
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, &failure{code: exitInvalid, err: fmt.Errorf("--ca-file %q holds no PEM certificate", c.caFile), hint: "it looks like -----BEGIN CERTIFICATE-----"}
	}
	return roots, nil
}

// hubHint says what to do about a hub that cannot be used.
func hubHint(e *runner.HubError) string {
	herr, ok := errors.AsType[*hub.Error](e.Err)
	if !ok {
		return ""
	}
	if herr.Kind == hub.KindUnauthorized || herr.Kind == hub.KindTokenExpired {
		return "the policy needs service connect, registry read and registry write; check that its key was copied whole and that this machine's clock is right"
	}
	if herr.Kind != hub.KindNotSent {
		return ""
	}
	if strings.Contains(herr.Error(), "certificate") {
		return "the hub's certificate is not trusted here; name its authority with --ca-file, or in SSL_CERT_FILE"
	}
	return "check HostName in the connection string, the network, and HTTPS_PROXY if there is a proxy"
}

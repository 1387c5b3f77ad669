package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/hubclient"
)

// hubScope is what a token for the hub's service APIs is asked for.
const hubScope = "https://iothubs.azure.net/.default"

// authEntra is the value of --auth for an identity of Entra ID.
const authEntra = "entra"

// identityServer is where a machine in Azure asks for tokens of its own identity.
const identityServer = "169.254.169.254:80"

// entraSource returns what gets tokens: of the workload's identity, of the machine's, or of
// who is logged in with az, the first of them that there is.
func entraSource(env environment, client *http.Client) (hubclient.TokenSource, error) {
	options := azcore.ClientOptions{Transport: client}
	var chain []azcore.TokenCredential
	// A test or a cloud of one's own has another authority, which Microsoft's cannot tell
	// anything of.
	own := env.getenv("AZURE_AUTHORITY_HOST") != ""
	if env.getenv("AZURE_FEDERATED_TOKEN_FILE") != "" {
		c, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: own})
		if err != nil {
			return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("workload identity: %w", err), Hint: "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE say which identity this is"}
		}
		chain = append(chain, c)
	}
	if env.getenv("IDENTITY_ENDPOINT") != "" || env.getenv("MSI_ENDPOINT") != "" || answers(identityServer) {
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: azcore.ClientOptions{}} // not by a proxy
		if id := env.getenv("AZURE_CLIENT_ID"); id != "" {
			o.ID = azidentity.ClientID(id)
		}
		if c, err := azidentity.NewManagedIdentityCredential(o); err == nil {
			chain = append(chain, c)
		}
	}
	if c, err := azidentity.NewAzureCLICredential(nil); err == nil {
		chain = append(chain, c)
	}
	all, err := azidentity.NewChainedTokenCredential(chain, nil)
	if err != nil {
		return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("--auth entra: %w", err)}
	}
	return func(ctx context.Context) (string, time.Time, error) {
		t, err := all.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{hubScope}})
		if err != nil {
			return "", time.Time{}, &identityError{err}
		}
		return t.Token, t.ExpiresOn, nil
	}, nil
}

// answers tells whether somebody listens at an address of this machine's own network.
func answers(address string) bool {
	const soon = 500 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// identityError means that no identity gave a token.
type identityError struct{ err error }

// Error says it in a line: azidentity writes a paragraph for each identity that it tried.
func (e *identityError) Error() string {
	lines := strings.FieldsFunc(e.err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) > 6 {
		lines = append(lines[:6], "...")
	}
	for i := range lines {
		lines[i] = strings.TrimSpace(strings.Trim(strings.TrimSpace(lines[i]), "-"))
	}
	return "no identity gave a token: " + strings.Join(strings.Fields(strings.Join(lines, " ")), " ")
}

// Unwrap returns what azidentity said.
func (e *identityError) Unwrap() error { return e.err }

// roleHint says which role is missing; empty if an error says nothing of that.
func roleHint(err error) string {
	text := err.Error()
	if strings.Contains(text, "no identity gave a token") {
		return "run az login, or give this machine or workload an identity: docs/security.md lists what each needs"
	}
	if strings.Contains(text, "no assigned permissions") {
		return "give the identity the role IoT Hub Data Contributor on this hub, or for preview alone IoT Hub Data Reader; a new assignment takes some minutes"
	}
	return ""
}

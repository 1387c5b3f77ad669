package hubclient_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
)

// TestNameServerThatIsSilent: whose name server answers nothing is told so in
// time, and nothing counts as sent.
func TestNameServerThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { // ends when the resolver gives up
				b := make([]byte, 512)
				for {
					if _, err := theirs.Read(b); err != nil {
						return
					}
				}
			}()
			return ours, nil
		}}
		client, err := hubclient.New(hubclient.Options{
			ConnectionString: "HostName=contoso.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=a2V5",
			DialContext:      (&net.Dialer{Resolver: silent}).DialContext,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		began := time.Now()
		_, err = client.Query(context.Background(), hub.Query{Text: "SELECT deviceId FROM devices", PageSize: 1})
		failed, ok := errors.AsType[*hub.Error](err)
		if !ok || failed.Kind != hub.KindNotSent || !strings.Contains(failed.Message, "lookup contoso.azure-devices.net") {
			t.Errorf("error %v, want one that names what was looked up, and nothing sent", err)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

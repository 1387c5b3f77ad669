package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amenzhinsky/iothub/common"
)

// loop is the bare loop: it makes requests and throws the answers away.
func loop(args []string) error {
	flags := flag.NewFlagSet("loop", flag.ExitOnError)
	verb := flags.String("verb", http.MethodPost, "method of the requests")
	suffix := flags.String("suffix", "/methods", "what follows the device in the path")
	body := flags.String("body", "", "body of each request")
	devices := flags.Int("devices", 0, "how many requests")
	concurrency := flags.Int("concurrency", 64, "connections")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client, host, token, err := bareClient(*concurrency)
	if err != nil {
		return err
	}
	header := http.Header{
		"Authorization": {token}, "Content-Type": {"application/json; charset=utf-8"},
	}
	if *verb == http.MethodPatch {
		header.Set("If-Match", `"*"`)
	}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	for range *concurrency {
		group.Go(func() {
			for n := next.Add(1); n <= int64(*devices) && failed.Load() == nil; n = next.Add(1) {
				url := fmt.Sprintf("https://%s/twins/door-%06d%s?api-version=2021-04-12", host, n, *suffix)
				if err := bareRequest(client, *verb, url, header, *body); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func bareRequest(client *http.Client, verb, url string, header http.Header, body string) error {
	req, err := http.NewRequestWithContext(context.Background(), verb, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header = header.Clone()
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read to its end below
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s %s: %s: %s", verb, url, res.Status, text)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func bareClient(concurrency int) (client *http.Client, host, token string, err error) {
	cs, err := common.ParseConnectionString(os.Getenv("IOTHUB_SERVICE_CONNECTION_STRING"), "HostName")
	if err != nil {
		return nil, "", "", err
	}
	pem, err := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
	if err != nil {
		return nil, "", "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	sas, err := common.NewSharedAccessSignature("localhost", cs["SharedAccessKeyName"], cs["SharedAccessKey"], time.Now().Add(time.Hour))
	if err != nil {
		return nil, "", "", err
	}
	client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConns:    concurrency, MaxIdleConnsPerHost: concurrency, MaxConnsPerHost: concurrency,
	}}
	return client, cs["HostName"], sas.String(), nil
}

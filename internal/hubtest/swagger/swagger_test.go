package swagger

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// exchange is one that the hub makes, with JSON on both sides.
func exchange(t *testing.T, verb, path, body string, status int, answer string) Exchange {
	t.Helper()
	u, err := url.Parse("https://some.hub:8443" + path + "?api-version=2020-09-30")
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "If-Match": {`"*"`}}
	return Exchange{
		Method: verb, URL: u, Header: header, Body: []byte(body),
		Status: status, AnswerHeader: header.Clone(), Answer: []byte(answer),
	}
}

func mustLoad(t *testing.T, corrections []Correction) *Description {
	t.Helper()
	d, err := load(corrections)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// judged is what a description says of an exchange that it knows.
func judged(t *testing.T, d *Description, x Exchange) error {
	t.Helper()
	v, err := d.Check(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	return v.Err()
}

// TestCorrections shows for each correction an exchange that is right on the
// wire, and wrong by the description as it was written.
func TestCorrections(t *testing.T) {
	exchanges := []Exchange{
		exchange(t, "POST", "/twins/d/methods", `{"methodName":"lock","payload":[1,"x"]}`, 200, `{"status":200,"payload":null}`),
		exchange(t, "PATCH", "/twins/d", `{"tags":{"a":1},"properties":{"desired":{"b":["c"]}}}`, 200, `{"deviceId":"d","tags":{"a":1},"properties":{"desired":{"b":["c"]},"reported":{}}}`),
		exchange(t, "GET", "/devices/d", "", 200, `{"deviceId":"d","statusReason":null}`),
		exchange(t, "GET", "/twins/d", "", 200, `{"deviceId":"d","modelId":""}`),
		exchange(t, "POST", "/devices", `[{"id":"d"}]`, 400, `{"isSuccessful":false,"errors":[{"deviceId":"d","errorCode":409001,"errorStatus":"d"}],"warnings":[]}`),
		exchange(t, "GET", "/jobs/v2/query", "", 200, `[{"jobId":"j","type":"scheduleUpdateTwin","status":"queued"}]`),
		exchange(t, "POST", "/devices/query", `{"query":"SELECT COUNT() AS n FROM devices"}`, 200, `[{"n":3}]`),
	}
	all := Corrections()
	if len(all) != len(exchanges) {
		t.Fatalf("%d corrections, %d exchanges: each correction needs one that proves it", len(all), len(exchanges))
	}
	for i, c := range all {
		t.Run(c.Where, func(t *testing.T) {
			if c.Why == "" {
				t.Error("the correction gives no reason")
			}
			if err := judged(t, mustLoad(t, all), exchanges[i]); err != nil {
				t.Errorf("with all corrections: %v", err)
			}
			without := mustLoad(t, slices.Delete(slices.Clone(all), i, i+1))
			if err := judged(t, without, exchanges[i]); err == nil {
				t.Error("the exchange is as described without the correction, too")
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	tests := []struct {
		name string
		x    Exchange
		part string // of the error
	}{
		{"a member that is not described", exchange(t, "GET", "/devices/d", "", 200, `{"deviceId":"d","colour":"red"}`), "colour"},
		{"a member of the wrong type", exchange(t, "GET", "/statistics/service", "", 200, `{"connectedDeviceCount":"many"}`), "connectedDeviceCount"},
		{"a word that is not one of the list", exchange(t, "GET", "/devices/d", "", 200, `{"status":"asleep"}`), "asleep"},
		{"a status that is not described", exchange(t, "GET", "/devices/d", "", 202, `{}`), "202"},
		{"an answer that is no JSON", exchange(t, "GET", "/devices/d", "", 200, `<html>`), "the answer"},
		{"a twin in a query that is none", exchange(t, "POST", "/devices/query", `{"query":"SELECT * FROM devices"}`, 200, `[{"etag":"x","properties":{},"colour":"red"}]`), "the answer"},
		{"a request with a member of the wrong type", exchange(t, "POST", "/twins/d/methods", `{"methodName":7}`, 200, `{"status":200,"payload":1}`), "the request"},
		{"a request without a body", exchange(t, "POST", "/devices/query", "", 200, `[]`), "the request"},
	}
	d := mustLoad(t, Corrections())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := judged(t, d, tt.x); err == nil || !strings.Contains(err.Error(), tt.part) {
				t.Errorf("Check = %v, want an error with %q", err, tt.part)
			}
		})
	}
	if _, err := d.Check(t.Context(), exchange(t, "GET", "/nowhere", "", 200, `{}`)); !errors.Is(err, ErrUnknown) {
		t.Errorf("Check of an unknown path = %v, want ErrUnknown", err)
	}
}

type answering struct{ body string }

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(a.body)),
	}, nil
}

func TestTransport(t *testing.T) {
	var reported []error
	client := http.Client{Transport: mustLoad(t, Corrections()).Transport(answering{`{"status":200,"payload":"yes","extra":1}`}, func(x Exchange, v Verdict, err error) {
		if err != nil || v.Operation != "POST /twins/{deviceId}/methods" || string(x.Body) != `{"methodName":"lock"}` {
			t.Errorf("reported %+v, %v with %s", v, err, x.Body)
		}
		reported = append(reported, v.Answer)
	})}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://hub:1234/twins/d/methods?api-version=2020-09-30", bytes.NewReader([]byte(`{"methodName":"lock"}`)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != `{"status":200,"payload":"yes","extra":1}` {
		t.Errorf("the client got %s", body)
	}
	if len(reported) != 1 || reported[0] == nil || !strings.Contains(reported[0].Error(), "extra") {
		t.Errorf("reported %v, want the member that is not described", reported)
	}
}

package hubclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/hubclient"
)

// echoes answers in every way a gateway could give away what it was sent.
func echoes() []struct {
	name   string
	answer func(w http.ResponseWriter, token string)
} {
	message := func(w http.ResponseWriter, status int, format string, args ...any) {
		w.WriteHeader(status)
		fmt.Fprintf(w, format, args...)
	}
	return []struct {
		name   string
		answer func(w http.ResponseWriter, token string)
	}{
		{"success", func(w http.ResponseWriter, _ string) {
			message(w, 200, `{"etag":"e","status":200}`)
		}},
		{"bad answer", func(w http.ResponseWriter, token string) { message(w, 200, `{"status":%q}`, token) }},
		{"plain text", func(w http.ResponseWriter, token string) { message(w, 401, "refused %s", token) }},
		{"message", func(w http.ResponseWriter, token string) {
			message(w, 401, `{"Message":"ErrorCode:IotHubUnauthorized;%s"}`, token)
		}},
		{"name", func(w http.ResponseWriter, token string) { message(w, 400, `{"Message":"ErrorCode:%s;x"}`, token) }},
		{"tracking id", func(w http.ResponseWriter, token string) {
			message(w, 500, `{"ExceptionMessage":"Tracking ID:%s"}`, token)
		}},
		{"inner object", func(w http.ResponseWriter, token string) {
			message(w, 404, `{"Message":"{\"errorCode\":404103,\"message\":\"%s\",\"trackingId\":\"%s\"}"}`, token, token)
		}},
		{"signature alone", func(w http.ResponseWriter, token string) {
			message(w, 403, `{"Message":"bad signature '%s'"}`, signatureOf(token))
		}},
		{"signature with escapes", func(w http.ResponseWriter, token string) {
			escaped := strings.NewReplacer("/", `\/`, "+", `\u002B`, "=", `\u003D`).Replace(signatureOf(token))
			message(w, 403, `{"Message":"bad signature '%s'"}`, escaped)
		}},
		{"signature at the end of a long text", func(w http.ResponseWriter, token string) {
			message(w, 403, `{"Message":"%s%s"}`, strings.Repeat("x", 1000), signatureOf(token))
		}},
		{"key alone", func(w http.ResponseWriter, _ string) { message(w, 500, `{"Message":"key %s"}`, key) }},
		{"headers", func(w http.ResponseWriter, token string) {
			w.Header().Set("Iothub-Errorcode", token)
			w.Header().Set("X-Ms-Request-Id", token)
			w.Header().Set("Retry-After", token)
			message(w, 429, ``)
		}},
		{"not HTTP", func(w http.ResponseWriter, token string) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprintf(conn, "%s\r\n\r\n", token)
				_ = conn.Close()
			}
		}},
		{"a broken header line", func(w http.ResponseWriter, token string) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", strings.ReplaceAll(token, ":", ""))
				_ = conn.Close()
			}
		}},
	}
}

// signatureOf returns the signature in a token, as it was before escaping.
func signatureOf(token string) string {
	fields, err := url.ParseQuery(strings.TrimPrefix(token, "SharedAccessSignature "))
	if err != nil {
		return ""
	}
	return fields.Get("sig")
}

// TestSecretsStayInside makes calls succeed and fail in all ways, with debug
// logging on, and looks for key and signature in everything that comes out.
func TestSecretsStayInside(t *testing.T) {
	for _, echo := range echoes() {
		t.Run(echo.name, func(t *testing.T) {
			var out bytes.Buffer
			h := newFakeHub(t, func(w http.ResponseWriter, r *http.Request) { echo.answer(w, r.Header.Get("Authorization")) })
			c := h.client(t, func(o *hubclient.Options) {
				o.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			for _, op := range operations() {
				describe(&out, op.run(t.Context(), c))
			}
			fmt.Fprintf(&out, "%v %+v %#v %s", c, c, c, c.HostName())
			seen := h.requests()
			if len(seen) < len(operations()) {
				t.Fatalf("the hub saw %d requests, want %d at least", len(seen), len(operations()))
			}
			if lines := strings.Count(out.String(), "op="); lines != len(operations()) {
				t.Errorf("%d lines were logged for %d calls", lines, len(operations()))
			}
			checkSecrets(t, out.String(), seen[0].header.Get("Authorization"))
		})
	}
}

// describe writes an error and all that it wraps, in all ways of fmt.
func describe(w io.Writer, err error) {
	if e, ok := errors.AsType[*hub.Error](err); ok {
		fmt.Fprintf(w, "%v %+v %#v %q %s %s %s\n", e, e, e, e, e.Name, e.Message, e.TrackingID)
	}
	for ; err != nil; err = errors.Unwrap(err) {
		fmt.Fprintf(w, "%v %+v %#v\n", err, err, err)
	}
}

func checkSecrets(t *testing.T, out, token string) {
	t.Helper()
	signature := signatureOf(token)
	if len(signature) < 20 {
		t.Fatalf("token %q holds no signature to look for", token)
	}
	// A part of a secret is one too: half of it is easier to guess.
	for _, secret := range []string{signature, url.QueryEscape(signature), signature[:16], key, url.QueryEscape(key), key[:16]} {
		if strings.Contains(out, secret) {
			t.Errorf("%q came out:\n%s", secret, out)
		}
	}
}

// TestSecretsOfUnsentCalls covers what fails before any hub is asked.
func TestSecretsOfUnsentCalls(t *testing.T) {
	var out bytes.Buffer
	c := newClient(t, hubclient.Options{
		ConnectionString: connectionString("example.com"),
		Log:              slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no route")
		},
	})
	for _, op := range operations() {
		describe(&out, op.run(t.Context(), c))
	}
	_, err := c.Query(t.Context(), hub.Query{Text: "q", Continuation: "broken\r\nheader"})
	describe(&out, err)
	if kind := refusalOf(t, err).Kind; kind != hub.KindNotSent {
		t.Errorf("a token that is no header value: kind = %s, want %s", kind, hub.KindNotSent)
	}
	if strings.Contains(out.String(), key[:16]) || strings.Contains(out.String(), "sig=") {
		t.Errorf("a secret came out:\n%s", &out)
	}
}

// TestSecretsOfTheProxy keeps the password of a proxy out of an error about it.
func TestSecretsOfTheProxy(t *testing.T) {
	_, err := hubclient.New(hubclient.Options{
		ConnectionString: connectionString("example.com"),
		Proxy: func(*http.Request) (*url.URL, error) {
			return nil, errors.New(`invalid proxy address "http://user:hunter2@proxy:99999"`)
		},
	})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "proxy:99999") {
		t.Errorf("New = %v, want an error that names the proxy without its password", err)
	}
}

package main

import (
	"encoding/binary"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// inUTF16 writes a text as Windows' editors do.
func inUTF16(order binary.AppendByteOrder, mark bool, text string) string {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xFEFF)
	}
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

func TestConnectionStringFiles(t *testing.T) {
	const one = "HostName=contoso.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0LXNlY3JldA=="
	const two = "HostName=other.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=b3RoZXItc2VjcmV0"
	for name, tt := range map[string]struct{ text, wrong string }{
		"plain":              {one, ""},
		"line break":         {one + "\r\n", ""},
		"byte order mark":    {"\uFEFF" + one + "\n", ""},
		"double quotes":      {`"` + one + `"` + "\n", ""},
		"single quotes":      {"'" + one + "'", ""},
		"mark and quotes":    {"\uFEFF\"" + one + "\"", ""},
		"two, one a line":    {one + "\n" + two, "it holds 2 connection strings"},
		"two in one line":    {one + ";" + two, "it holds 2 connection strings"},
		"UTF-16 little":      {inUTF16(binary.LittleEndian, true, one), "it is in UTF-16"},
		"UTF-16 big":         {inUTF16(binary.BigEndian, true, one), "it is in UTF-16"},
		"UTF-16, not marked": {inUTF16(binary.LittleEndian, false, one), "it is in UTF-16"},
	} {
		file := filepath.Join(t.TempDir(), "hub.txt")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		fromFile, fileErr := connection{stringFile: file}.connectionString(environment{getenv: func(string) string { return "" }})
		fromEnv, envErr := connection{}.connectionString(environment{getenv: func(name string) string {
			return map[string]string{connectionStringVar: tt.text}[name]
		}})
		for got, err := range map[string]error{"file " + fromFile: fileErr, "environment " + fromEnv: envErr} {
			_, text, _ := strings.Cut(got, " ")
			switch {
			case tt.wrong == "" && (err != nil || text != one):
				t.Errorf("%s: %s, %v", name, got, err)
			case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), "c2VjcmV0")):
				t.Errorf("%s: %s, %v; want the error %q without a key", name, got, err, tt.wrong)
			}
		}
	}
}

func TestProxyVariables(t *testing.T) {
	for _, tt := range []struct{ name, value, want, wrong string }{
		{"HTTPS_PROXY", "http://user:s3%zz@host:3128", "", "HTTPS_PROXY is no URL"},
		{"https_proxy", "http://user:s3%zz@host:3128", "", "HTTPS_PROXY is no URL"},
		{"HTTPS_PROXY", "user:s3%zz@host", "", "HTTPS_PROXY is no URL"},
		{"HTTPS_PROXY", "ftp://host", "", `HTTPS_PROXY has the scheme "ftp"`},
		{"HTTPS_PROXY", "http://", "", "HTTPS_PROXY names no host"},
		{"HTTPS_PROXY", "http://user:s3%25zz@host:3128", "http://user:s3%25zz@host:3128", ""},
		{"HTTPS_PROXY", "host:3128", "http://host:3128", ""},
		{"https_proxy", "socks5://host:1080", "socks5://host:1080", ""},
		{"NO_PROXY", "*", "<nil>", ""},
	} {
		choose, err := proxyOf(environment{getenv: func(name string) string { return map[string]string{tt.name: tt.value}[name] }})
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), "s3") {
				t.Errorf("%s=%s: %v, want %q", tt.name, tt.value, err, tt.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s=%s: %v", tt.name, tt.value, err)
			continue
		}
		u, err := choose(&http.Request{URL: &url.URL{Scheme: "https", Host: "contoso.azure-devices.net"}})
		if got := "<nil>"; err != nil || u != nil && u.String() != tt.want || u == nil && got != tt.want {
			t.Errorf("%s=%s: proxy %v, %v, want %s", tt.name, tt.value, u, err, tt.want)
		}
	}
}

func TestExposedConnectionString(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hub.txt")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o777: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if got := (connection{stringFile: file}).exposed(); (got != "") != want && filepath.Separator == '/' {
			t.Errorf("mode %v: %q, want a warning: %t", mode, got, want)
		}
	}
}

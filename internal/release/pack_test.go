package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"
	"time"
)

// Archives of the same files are the same, whenever and by whom they are made, and hold
// what was put in.
func TestPack(t *testing.T) {
	at := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	files := []file{{"runner", 0o755, []byte("binary")}, {"man/man1/runner.1", 0o644, []byte("manual")}}
	for name, pack := range map[string]func(string, []file, time.Time) ([]byte, error){"tar": tarball, "zip": zipfile} {
		a, err := pack("runner_1", files, at)
		if err != nil {
			t.Fatal(err)
		}
		b, err := pack("runner_1", files, at.In(time.FixedZone("there", 7200)))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: made twice it is another, %v", name, err)
		}
		unpack := unzipped
		if name == "tar" {
			unpack = untarred
		}
		got, err := unpack(a)
		if err != nil {
			t.Fatal(err)
		}
		if got["runner_1/runner"] != "binary -rwxr-xr-x" || got["runner_1/man/man1/runner.1"] != "manual -rw-r--r--" || len(got) != 2 {
			t.Errorf("%s holds %v", name, got)
		}
	}
}

func unzipped(text []byte) (map[string]string, error) {
	got := map[string]string{}
	z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		return nil, err
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		got[f.Name] = string(text) + " " + f.Mode().String()
	}
	return got, nil
}

func untarred(text []byte) (map[string]string, error) {
	got := map[string]string{}
	gz, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		got[h.Name] = string(text) + " " + h.FileInfo().Mode().String()
	}
}

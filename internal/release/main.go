// Command release makes the archives of a version: for each system a static binary with
// its manual, completions and notices, checksums, and a bill of materials. Made twice from
// one commit they are the same, byte for byte.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// release is what is made, and of what.
type release struct {
	version string
	at      time.Time // of the commit: the time of every file
	out     string
	work    string // a temporary folder
}

func main() {
	r := release{}
	flag.StringVar(&r.version, "version", "dev", "the version that is made")
	flag.StringVar(&r.out, "out", "dist", "the folder of the archives")
	systems := flag.String("systems", "linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64", "what to build for, OS/ARCH each")
	flag.Parse()
	if err := r.make(strings.Fields(*systems)); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func (r *release) make(systems []string) (err error) {
	if r.at, err = commitTime(); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "runner-release-*"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.work)) }()
	if err = os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	host := filepath.Join(r.work, "host")
	if err = r.build(host, runtime.GOOS, runtime.GOARCH); err != nil {
		return err
	}
	docs, err := r.documents(host)
	if err != nil {
		return err
	}
	var made []string
	for _, system := range systems {
		goos, arch, _ := strings.Cut(system, "/")
		name, err := r.archive(goos, arch, docs)
		if err != nil {
			return fmt.Errorf("%s: %w", system, err)
		}
		made = append(made, name)
		fmt.Println(filepath.Join(r.out, name))
	}
	bill := fmt.Sprintf("runner_%s_sbom.cdx.json", r.version)
	if err := r.bill(host, filepath.Join(r.out, bill)); err != nil {
		return err
	}
	return r.checksums(append(made, bill))
}

// commitTime is when the commit was made that is checked out.
func commitTime() (time.Time, error) {
	text, err := exec.CommandContext(context.Background(), "git", "log", "-1", "--format=%cI").Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("ask git for the commit: %w", err)
	}
	return time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
}

// build builds a binary. Nothing of this machine gets into it.
func (r *release) build(path, goos, arch string) error {
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags", "-s -w -buildid= -X main.version="+r.version, "-o", path, "./cmd/runner")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch, "GOFLAGS=")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}

// file is one of an archive.
type file struct {
	name string
	mode os.FileMode
	text []byte
}

// documents are the files of every archive beside the binary.
func (r *release) documents(host string) ([]file, error) {
	var all []file
	for _, name := range []string{"README.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, file{name, 0o644, text})
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		text, err := exec.CommandContext(context.Background(), host, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion %s: %w", shell, err)
		}
		all = append(all, file{"completions/runner." + shell, 0o644, text})
	}
	manual := filepath.Join(r.work, "man")
	cmd := exec.CommandContext(context.Background(), host, "man", manual)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.at.Unix()))
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("man: %w", err)
	}
	pages, err := filepath.Glob(filepath.Join(manual, "*.1"))
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		text, readErr := os.ReadFile(page)
		if readErr != nil {
			return nil, readErr
		}
		all = append(all, file{"man/man1/" + filepath.Base(page), 0o644, text})
	}
	notices, err := notices(host)
	if err != nil {
		return nil, err
	}
	return append(all, file{"THIRD-PARTY-NOTICES.txt", 0o644, notices}), nil
}

// archive makes that of one system and returns its name.
func (r *release) archive(goos, arch string, docs []file) (string, error) {
	binary := "runner"
	if goos == "windows" {
		binary += ".exe"
	}
	path := filepath.Join(r.work, goos+"-"+arch)
	if err := r.build(path, goos, arch); err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	files := append([]file{{binary, 0o755, text}}, docs...)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	name := fmt.Sprintf("runner_%s_%s_%s", r.version, goos, arch)
	pack, ending := tarball, ".tar.gz"
	if goos == "windows" {
		pack, ending = zipfile, ".zip"
	}
	packed, err := pack(name, files, r.at)
	if err != nil {
		return "", err
	}
	return name + ending, os.WriteFile(filepath.Join(r.out, name+ending), packed, 0o644)
}

// checksums writes those of all files, as sha256sum -c reads them.
func (r *release) checksums(names []string) error {
	var out bytes.Buffer
	slices.Sort(names)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		fmt.Fprintf(&out, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), out.Bytes(), 0o644)
}

// bill writes what the binary is made of, in CycloneDX's form.
func (r *release) bill(host, path string) error {
	info, err := buildinfo.ReadFile(host)
	if err != nil {
		return fmt.Errorf("read what the binary is made of: %w", err)
	}
	b := cdx.NewBOM()
	main := purl(info.Main.Path, r.version)
	b.Metadata = &cdx.Metadata{
		Timestamp: r.at.UTC().Format(time.RFC3339),
		Component: &cdx.Component{BOMRef: main, Type: cdx.ComponentTypeApplication, Name: "runner", Version: r.version, PackageURL: main},
	}
	components := []cdx.Component{{BOMRef: purl("std", info.GoVersion), Type: cdx.ComponentTypeLibrary, Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go"), PackageURL: purl("std", info.GoVersion)}}
	needs := []string{components[0].BOMRef}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		ref := purl(m.Path, m.Version)
		components, needs = append(components, cdx.Component{BOMRef: ref, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: ref}), append(needs, ref)
	}
	b.Components = &components
	b.Dependencies = &[]cdx.Dependency{{Ref: main, Dependencies: &needs}}
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(b); err != nil {
		return fmt.Errorf("write the bill of materials: %w", err)
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

func purl(module, version string) string { return "pkg:golang/" + module + "@" + version }

// notices are the licences of all that the binary is made of.
func notices(host string) ([]byte, error) {
	info, err := buildinfo.ReadFile(host)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "runner holds the following software.\n")
	for _, m := range info.Deps {
		text, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-json", m.Path).Output()
		if err != nil {
			return nil, fmt.Errorf("go list %s: %w", m.Path, err)
		}
		var module struct{ Dir string }
		if err := json.Unmarshal(text, &module); err != nil {
			return nil, err
		}
		found := false
		for _, pattern := range []string{"LICENSE*", "LICENCE*", "COPYING*", "NOTICE*"} {
			paths, _ := filepath.Glob(filepath.Join(module.Dir, pattern))
			for _, path := range paths {
				if licence, err := os.ReadFile(path); err == nil {
					fmt.Fprintf(&out, "\n%s\n%s %s (%s)\n\n%s\n", strings.Repeat("=", 80), m.Path, m.Version, filepath.Base(path), bytes.TrimSpace(licence))
					found = true
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("%s has no licence", m.Path)
		}
	}
	return out.Bytes(), nil
}

package planfile_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

// jobs writes a plan of n method jobs.
func jobs(n int) string {
	var b strings.Builder
	b.WriteString("version: 1\nname: big\njobs:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - name: job-%d\n    type: directMethod\n    target: tags.building = %d\n    method: lockDoor\n", i, i)
		fmt.Fprintf(&b, "    payload: {lockTime: 10m, n: %d}\n    responseTimeout: 30s\n    retry: {attempts: 3, backoff: 2s}\n", i)
	}
	return b.String()
}

// hostileFile is a plan made to hurt, and the finding it ends in.
type hostileFile struct{ name, text, rule string }

// hostileFolder has the files that hostile plans name.
func hostileFolder() fs.FS {
	return fstest.MapFS{
		"large.json":  {Data: []byte("[" + strings.Repeat("1,", 2_000_000) + "1]")},
		"deep.json":   {Data: []byte(strings.Repeat("[", 1_000_000))},
		"twice.txt":   {Data: []byte(strings.Repeat("door-1\n", 1_000_000))},
		"devices.txt": {Data: []byte(deviceList(100_000))},
	}
}

func deviceList(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "door-%d\n", i)
	}
	return b.String()
}

// manyJobs writes a plan of n jobs that have the same fields, after a variable
// of 200,000 bytes.
func manyJobs(n int, fields string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nname: big\nvars: {x: \"%s\"}\njobs:\n", strings.Repeat("'", 200_000))
	for i := range n {
		fmt.Fprintf(&b, "  - {name: job-%d, type: directMethod, method: m, %s}\n", i, fields)
	}
	return b.String()
}

func hostileFiles() []hostileFile {
	const size = planfile.MaxSize
	var bomb strings.Builder
	bomb.WriteString("a: &a [x, x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c < 'k'; c++ {
		fmt.Fprintf(&bomb, "%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	long := "a: &a " + strings.Repeat("x", 1_000_000) + "\nb: [" + strings.Repeat("*a, ", 50_000) + "]\n"
	return []hostileFile{
		{"over the size", strings.Repeat("a", size+1), "file-size"},
		{"open brackets", strings.Repeat("[", size), "file-size"},
		{"fewer open brackets", strings.Repeat("[", 400_000), "nesting"},
		{"open braces", strings.Repeat("{", 400_000), "nesting"},
		{"dashes", strings.Repeat("- ", 200_000), "nesting"},
		{"question marks", strings.Repeat("? ", 200_000), "nesting"},
		{"deep blocks", func() string {
			var b strings.Builder
			for i := range 2500 {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(), "nesting"},
		{"tiny values", "[" + strings.Repeat("1,", size/2-2) + "]", "file-size"},
		{"tiny keys", strings.Repeat("a: 1\n", size/5), "file-size"},
		{"duplicate keys", strings.Repeat("a: 1\n", 50_000), "too-many-findings"},
		{"distinct keys", func() string {
			var b strings.Builder
			for i := range 50_000 {
				fmt.Fprintf(&b, "k%d: 1\n", i)
			}
			return b.String()
		}(), "too-many-findings"},
		{"comments", strings.Repeat("# c\n", 100_000), "empty-plan"},
		{"newlines", strings.Repeat("\n", 200_000), "empty-plan"},
		{"spaces", strings.Repeat(" ", 1_000_000), "empty-plan"},
		{"NUL bytes", strings.Repeat("\x00", size), "encoding"},
		{"not UTF-8", "version: 1\nname: \xff\xfe\n", "encoding"},
		{"alias bomb", bomb.String(), "alias-expansion"},
		{"alias of a long text", long, "alias-expansion"},
		{"deep by aliases", "a: &a " + nested("1", 60) + "\nb: " + nested("*a", 60) + "\n", "nesting"},
		{"one long line", "name: " + strings.Repeat("a b ", 250_000), "wrong-value"},
		{"long query", jobs(1) + "    deadline: " + strings.Repeat("(", 1_000_000), "wrong-value"},
		{"parentheses", strings.Replace(jobs(1), "tags.building = 0", strings.Repeat("(", 300_000), 1), "query-syntax"},
		{"key-like text", "name: " + strings.Repeat("SharedAccessKey=", 60_000), "secret-in-plan"},
		{"many secrets", "x:\n" + strings.Repeat("  - SharedAccessKey=abcdefghij\n", 100_000), "secret-in-plan"},
		{"many different secrets", func() string {
			var b strings.Builder
			b.WriteString("x:\n")
			for i := range 100_000 {
				fmt.Fprintf(&b, "  - SharedAccessKey=abcdefghij%d\n", i)
			}
			return b.String()
		}(), "secret-in-plan"},
		{"a long variable in many payloads", manyJobs(1000, "target: {all: true}, payload: '${var.x}${var.x}${var.x}${var.x}'"), "variable-value"},
		{"a long variable often in one payload", manyJobs(1, "target: {all: true}, payload: ["+strings.Repeat("'${var.x}', ", 50_000)+"]"), "variable-value"},
		{"a long variable in templates", manyJobs(1000, "target: {all: true}, payload: '${var.x} ${device.id}'"), "variable-value"},
		{"a long variable behind an alias", manyJobs(1, "target: {all: true}, payload: [&x '${var.x}', "+strings.Repeat("*x, ", 100_000)+"]"), "variable-value"},
		{"a long variable in queries", manyJobs(1000, "target: 'tags.a = ${var.x}'"), "variable-value"},
		{"a large payload file", manyJobs(1000, "target: {all: true}, payloadFile: large.json"), "file"},
		{"a deep payload file", manyJobs(1000, "target: {all: true}, payloadFile: deep.json"), "file"},
		{"a file of one device", manyJobs(1000, "target: {devicesFile: twice.txt}"), "target"},
		{"many copies of a file of devices", manyJobs(1000, "target: {devices: [a], devicesFile: devices.txt}"), "target"},
	}
}

// TestHostileFiles: a file made to hurt ends in a finding. Without the limits of
// Parse these take minutes, or exhaust the memory; BenchmarkHostileFiles says
// what they take with them.
func TestHostileFiles(t *testing.T) {
	folder := hostileFolder()
	for _, c := range hostileFiles() {
		t.Run(c.name, func(t *testing.T) {
			plan, diags := planfile.Parse("plan.yaml", []byte(c.text), planfile.Options{FS: folder})
			if plan != nil || !hasRule(diags, c.rule) {
				t.Errorf("Parse: plan %v, no %s among %d findings: %.300s", plan != nil, c.rule, len(diags), diags)
			}
			if out := diags.String(); len(out) > 2_000_000 {
				t.Errorf("the findings take %d bytes", len(out))
			}
		})
	}
}

// BenchmarkHostileFiles compares what a file made to hurt takes with what an
// honest plan of 10,000 jobs takes in the same run.
func BenchmarkHostileFiles(b *testing.B) {
	honest := []byte(jobs(10_000))
	folder := hostileFolder()
	for _, c := range hostileFiles() {
		b.Run(c.name, func(b *testing.B) {
			start := time.Now()
			planfile.Parse("plan.yaml", honest, planfile.Options{})
			unit := time.Since(start)
			for b.Loop() {
				_, diags := planfile.Parse("plan.yaml", []byte(c.text), planfile.Options{FS: folder})
				_ = diags.String()
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(unit), "x-10k-jobs")
		})
	}
}

// nested wraps a value in so many lists.
func nested(value string, depth int) string {
	return strings.Repeat("[", depth) + value + strings.Repeat("]", depth)
}

func hasRule(diags spec.Diagnostics, rule string) bool {
	for _, d := range diags {
		if string(d.Rule) == rule {
			return true
		}
	}
	return false
}

// TestManyJobs: a plan of 10,000 jobs is nothing special.
func TestManyJobs(t *testing.T) {
	plan, diags := planfile.Parse("plan.yaml", []byte(jobs(10_000)), planfile.Options{})
	if plan == nil || len(plan.Jobs) != 10_000 || len(diags) > 0 {
		t.Fatalf("Parse: %d findings: %.500s", len(diags), diags)
	}
}

func BenchmarkParse10kJobs(b *testing.B) {
	src := []byte(jobs(10_000))
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if plan, diags := planfile.Parse("plan.yaml", src, planfile.Options{}); plan == nil {
			b.Fatal(diags)
		}
	}
}

// TestSecretsStayHidden: whatever Parse says of a plan, in whatever form, the
// secret in it is not part of it.
func TestSecretsStayHidden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*secret*.yaml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("Glob = %v, %v", files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, diags := planfile.Parse(file, src, planfile.Options{FS: os.DirFS(filepath.Dir(file))})
		for _, d := range diags {
			said := fmt.Sprintf("%+v", d) + d.String()
			for _, secret := range []string{"bm90IG", "abcdefghijkl", "hunter2", "c2lnbm", "eyJ"} {
				if strings.Contains(said, secret) {
					t.Errorf("Parse(%q) shows %q: %s", file, secret, said)
				}
			}
		}
	}
}

// TestKeySizes: the hub's keys have 32 or 64 bytes; other base64 is none.
func TestKeySizes(t *testing.T) {
	for size, want := range map[int]bool{31: false, 32: true, 33: false, 48: false, 63: false, 64: true, 65: false} {
		text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x9A}, size))
		src := strings.Replace(jobs(1), "10m", `"`+text+`"`, 1)
		_, diags := planfile.Parse("plan.yaml", []byte(src), planfile.Options{})
		if got := hasRule(diags, "possible-secret"); got != want || strings.Contains(diags.String(), text) {
			t.Errorf("%d bytes in base64: found %t, want %t:\n%s", size, got, want, diags)
		}
	}
}

// TestSecretInMessage: values are quoted in messages, also cut short.
func TestSecretInMessage(t *testing.T) {
	const key = "c29tZXRoaW5nIHRoYXQgbG9va3MgbGlrZSBhIGtleSE="
	for _, format := range []string{
		"version: 1\nname: \"SharedAccessKey=%s\"\n",
		"version: 1\nname: \"a long text before it, a long text: SharedAccessKey=%s\"\n",
		"version: 1\nname: %s\n",
		"version: 1\nhub: {hostName: %s}\n",
		"version: 1\nhub: {sku: %s}\n",
		"version: 1\n%s: 1\n",
		"version: 1\njobs:\n  - target: {devices: [\"a %s\"]}\n",
		"version: 1\njobs:\n  - delay: %s\n",
		"version: 1\njobs:\n  - target: tags.a = '%s' or\n",
		"version: 1\nname: &a \"Shared\\u0041ccessKey=%s\"\n",
		"version: 1\nname: p\n\tSharedAccessKey=%s\n",
		"# SharedAccessKey=%s\n\tname: 1\n",
	} {
		text := fmt.Sprintf(format, key)
		_, diags := planfile.Parse("plan.yaml", []byte(text), planfile.Options{})
		if len(diags) == 0 {
			t.Errorf("Parse(%q) finds nothing", text)
		}
		if out := diags.String(); strings.Contains(out, key[:12]) || strings.Contains(out, key[20:]) {
			t.Errorf("Parse(%q) shows the key:\n%s", text, out)
		}
	}
}

package sdktest_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/hubtest/foreign"
)

const javaSDKs = "Microsoft's Java SDKs"

// TestJavaOnStandardPorts runs java/Sdk.java. Its clients know no other ports, and
// no hub whose name has no dot: a hosts file of Java's own leads to this one.
func TestJavaOnStandardPorts(t *testing.T) {
	classes, err := findJava()
	if foreign.Excused(t, javaSDKs, err) || foreign.Excused(t, javaSDKs, standardPortsFree(t.Context())) {
		return
	}
	at := standardPorts()
	at.name = hubName
	h, err := tryHub(t, at, doors)
	if foreign.Excused(t, javaSDKs, err) {
		return
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err = os.WriteFile(hosts, []byte("127.0.0.1 "+hubName+"\n127.0.0.1 localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, "java", "-Djdk.net.hosts.file="+hosts, "-cp", classes, "java/Sdk.java")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, h.environment(t)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	ran := javaRan.FindStringSubmatch(out.String())
	if err != nil || ran == nil {
		t.Fatalf("java: %v\n%s", err, tail(out.String()))
	}
	t.Logf("%s tests", ran[1])
}

var javaRan = regexp.MustCompile(`(?m)^Ran (\d+) tests\nOK$`)

// findJava returns the class path that make java-sdks wrote.
func findJava() (string, error) {
	if _, err := os.ReadFile("java/Sdk.java"); err != nil { // so that go test knows what the result depends on
		return "", err
	}
	if _, err := exec.LookPath("java"); err != nil {
		return "", foreign.AbsenceError("there is no java on the PATH")
	}
	made, err := installed("java", "pom.xml")
	if err != nil {
		return "", err
	}
	classes, err := os.ReadFile(filepath.Join(made, "classpath"))
	return strings.TrimSpace(string(classes)), err
}

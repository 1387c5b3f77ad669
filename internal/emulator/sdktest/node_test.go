package sdktest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"iothub-runner/internal/hubtest/foreign"
)

// TestNode runs every program under node/ against a hub of its own, on ports
// that the kernel picks.
func TestNode(t *testing.T) {
	t.Parallel()
	node, err := foreign.Node(t.Context())
	if foreign.Excused(t, nodeSDKs, err) {
		return
	}
	for _, program := range programs(t, "node") {
		t.Run(programName(program), func(t *testing.T) {
			t.Parallel()
			h := startHub(t, anyPorts(hubName), doors)
			runNode(t, node, append(h.environment(t), "NODE_OPTIONS=--require=./node/redirect.cjs"), program)
		})
	}
}

// TestNodeOnStandardPorts runs the same, what a new user writes first, and the
// programs of the documents, with nothing between the SDKs and a hub on 443 and
// 8883.
func TestNodeOnStandardPorts(t *testing.T) {
	node, err := foreign.Node(t.Context())
	if foreign.Excused(t, nodeSDKs, err) || foreign.Excused(t, nodeSDKs+" on the standard ports", standardPortsFree(t.Context())) {
		return
	}
	for _, program := range append(programs(t, "node"), programs(t, filepath.Join("node", "ports"))...) {
		t.Run(programName(program), func(t *testing.T) {
			if h, err := tryHub(t, standardPorts(), doors); !foreign.Excused(t, nodeSDKs, err) {
				runNode(t, node, h.environment(t), program)
			}
		})
	}
	t.Run("documents", func(t *testing.T) { testDocuments(t, node) })
}

func programName(file string) string {
	return strings.TrimSuffix(filepath.Base(file), ".test.cjs")
}

// The clients that an absence keeps from being tested.
const (
	nodeSDKs  = "Microsoft's Node SDKs"
	goClients = "the Go clients"
)

// programs lists what there is to run. It reads every file, so that go test
// knows what a result that it keeps depends on.
func programs(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.cjs"))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".test.cjs") {
			list = append(list, file)
		}
	}
	if len(list) == 0 {
		t.Fatalf("there are no programs %s/*.test.cjs", dir)
	}
	return list
}

// runNode runs one program against a hub.
func runNode(t *testing.T, node string, env []string, program string) {
	t.Helper()
	env = append(env, deviceCertificate(t)...)
	foreign.RunNode(t, node, append(env, "NODE_EXTRA_CA_CERTS="+value(env, "HUB_CA_FILE")), program)
}

// value looks a variable up.
func value(env []string, name string) string {
	for _, setting := range env {
		if v, ok := strings.CutPrefix(setting, name+"="); ok {
			return v
		}
	}
	return ""
}

package main

import (
	"bytes"
	"strings"
	"testing"

	"iothub-runner/internal/exit"
)

// TestSecretArguments makes the slips that put a connection string where a path
// or a command belongs: no output may hold the key.
func TestSecretArguments(t *testing.T) {
	const key = "c2VjcmV0LWtleS1vZi10aGUtaHVi"
	text := "HostName=contoso.azure-devices.net;SharedAccessKeyName=runner;SharedAccessKey=" + key + "="
	token := "SharedAccessSignature sr=contoso.azure-devices.net&sig=" + key + "%3D&se=1&skn=runner"
	for _, secret := range []string{text, token, strings.ToLower(text[:40]) + text[40:], "SharedAccessKey=" + key} {
		for _, args := range [][]string{
			{"apply", "--connection-string-file", secret, "plan.yaml"},
			{"apply", "--connection-string-file=" + secret, "plan.yaml"},
			{"apply", secret},
			{"apply", "plan.yaml", secret},
			{secret},
			{"apply", "--log-format", "json", "--ca-file", secret, "plan.yaml"},
			{"validate", secret},
			{"preview", "--out", secret, "plan.yaml"},
			{"explain", secret},
			{"emulator", "--connection-string-file", secret},
			{"apply", "--report", secret, "plan.yaml"},
			{"apply", "--var", "key=" + secret, "plan.yaml"},
			{"apply", "--resume", secret, "--", secret},
		} {
			var stdout, stderr bytes.Buffer
			code := run(args, environment{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr})
			if code != exit.Invalid {
				t.Errorf("run(%q) = %d, want %d", args, code, exit.Invalid)
			}
			if out := stdout.String() + stderr.String(); strings.Contains(out, key) || !strings.Contains(out, "holds a key or a signature") {
				t.Errorf("run(%q) says %s", args, out)
			}
		}
	}
	for _, harmless := range []string{"plan.yaml", "--connection-string-file", "SharedAccessKeyName=runner", "design=1", "--var=sigma=2"} {
		if err := checkArguments([]string{harmless}); err != nil {
			t.Errorf("checkArguments(%q) = %v, want nil", harmless, err)
		}
	}
}

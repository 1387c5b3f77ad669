package emulator

import (
	"os"
	"strings"
	"testing"

	"iothub-runner/internal/emulator/core"
)

// TestDocsNameEverySwitch keeps docs/emulator.md and the code together.
func TestDocsNameEverySwitch(t *testing.T) {
	src, err := os.ReadFile("../../docs/emulator.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range core.Behaviours() {
		row := "| `" + b.Name + "` | `" + strings.Join(b.Values, "`, `") + "` | " + b.Doc + " |"
		if !strings.Contains(string(src), row) {
			t.Errorf("docs/emulator.md lacks the row\n%s", row)
		}
	}
	if n := strings.Count(string(src), "\n| `"); n < len(core.Behaviours()) {
		t.Errorf("docs/emulator.md has %d rows", n)
	}
}

package render

import "testing"

// What a message tells people to run is what a shell then runs.
func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"plans/a-1.yaml": "plans/a-1.yaml",
		"":               "''",
		"my pin.json":    "'my pin.json'",
		"it's":           `'it'\''s'`,
		"a;b":            "'a;b'",
		"$HOME/~x":       "'$HOME/~x'",
		"tür.json":       "tür.json",
	} {
		if got := ShellWord(in); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}

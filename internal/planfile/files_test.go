package planfile

import "testing"

func TestCommentsInLists(t *testing.T) {
	for line, want := range map[string]string{
		"door-1": "door-1", "door-1 # kitchen": "door-1", "door#1 # kitchen, top floor": "door#1", "door#1/mod # c": "door#1/mod",
		"door#1": "door#1", "door#1#": "door#1#", "# all": "", "  # all": "", "door\t#2": "door", "a#b\t# c # d\r": "a#b", "#1": "",
	} {
		if got := withoutComment(line); got != want {
			t.Errorf("withoutComment(%q) = %q, want %q", line, got, want)
		}
	}
}

package planfile

import "testing"

func TestNumbersInJSON(t *testing.T) {
	for text, want := range map[string]string{
		"+5": "5", "-5.50": "-5.50", ".5": "0.5", "5.": "5", "1e+3": "1e+3", "0": "0",
		"+-5": "", "-+5": "", "e": "", "e5": "", ".": "", "+": "", "5e": "", "1e5.5": "", "1.2.3": "", "0x1f": "", "1_000": "", "007": "",
	} {
		if got, _ := jsonNumber(text); got != want {
			t.Errorf("jsonNumber(%q) = %q, want %q", text, got, want)
		}
	}
}

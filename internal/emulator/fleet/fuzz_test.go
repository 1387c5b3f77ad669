package fleet_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"iothub-runner/internal/emulator/fleet"
)

// Parse never panics, places its findings inside the file, agrees with the
// schema on what it accepts, and a fleet it returns can be asked anything.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"testdata/ok", "testdata/err", "../../../examples/fleets"} {
		for _, file := range corpus(f, dir) {
			f.Add(read(f, file))
		}
	}
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		fl, err := fleet.Parse("f", src)
		if err != nil {
			checkFindings(t, src, err)
			return
		}
		if err := validate(t, schema, src); err != nil && !errors.Is(err, errNotYAML) {
			t.Errorf("the schema refuses what Parse takes: %v", err)
		}
		for i := 0; i < fl.Len(); i += 1 + fl.Len()/20 {
			if got, ok := fl.Index(fl.ID(i)); !ok || got != i {
				t.Errorf("Index(%q) = %d, %t, want %d", fl.ID(i), got, ok, i)
			}
			checkJSON(t, fl, i)
			checkSizes(t, fl, i)
			fl.Online(i, time.Minute)
			fl.Follow(i, 3).Reported([]byte(`{"a":1,"b":{"c":[true]}}`))
			for m := range fl.Modules(i) {
				fl.ModuleTwin(i, m)
				fl.InvokeModule(i, m, "m", 1, nil)
			}
			for _, op := range fleet.Operations() {
				fl.Fault(fleet.Call{Operation: op, Device: i, NthOfDevice: 1, NthOfHub: 1}, time.Minute)
			}
		}
	})
}

func checkFindings(tb testing.TB, src []byte, err error) {
	tb.Helper()
	var all *fleet.Error
	if !errors.As(err, &all) || len(all.Findings) == 0 {
		tb.Fatalf("an error without findings: %v", err)
	}
	lines := strings.Count(string(src), "\n") + 1
	for _, f := range all.Findings {
		// YAML breaks lines at more characters than \n; the parser may also
		// complain at the line after the last.
		breaks := strings.Count(string(src), "\r") + strings.Count(string(src), "\u0085") +
			strings.Count(string(src), "\u2028") + strings.Count(string(src), "\u2029")
		if f.Line < 1 || f.Column < 1 || f.Line > lines+breaks+1 || f.Column > len(src)+1 {
			tb.Errorf("finding outside of the file: %v", f)
		}
		if !utf8.ValidString(f.Text) || f.Text == "" {
			tb.Errorf("finding without readable text: %q", f.Text)
		}
	}
}

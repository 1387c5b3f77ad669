package fleet_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/emulator/fleet"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every file in testdata/err is refused with exactly the findings beside it.
func TestParseRefuses(t *testing.T) {
	for _, file := range corpus(t, "testdata/err") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := fleet.Parse(filepath.Base(file), read(t, file))
			if err == nil {
				t.Fatalf("Parse(%s) takes what it should refuse", file)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".out", err.Error()+"\n")
		})
	}
}

// Every file in testdata/ok describes exactly the fleet beside it: a change of
// how chance is drawn changes every fleet that users have, and shows here.
func TestParseDescribes(t *testing.T) {
	for _, file := range corpus(t, "testdata/ok") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := fleet.Parse(filepath.Base(file), read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".out", describe(f))
		})
	}
}

// describe writes down all that a fleet says of its devices at a few moments.
func describe(f *fleet.Fleet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d devices, seed %d, index lag %v\n", f.Len(), f.Seed(), f.IndexLag())
	for i := range f.Len() {
		tw := f.Twin(i)
		fmt.Fprintf(&b, "\n%s\n  tags %s\n  desired %s\n  reported %s\n", f.ID(i), tw.Tags, tw.Desired, tw.Reported)
		b.WriteString("  online")
		for _, since := range []time.Duration{0, 15 * time.Second, 30 * time.Second, time.Hour} {
			fmt.Fprintf(&b, " %v=%t", since, f.Online(i, since))
		}
		fl := f.Follow(i, 2)
		fmt.Fprintf(&b, "\n  follows %d after %v: %s\n", fl.Kind, fl.Delay, fl.Reported([]byte(`{"floor":3,"gone":"x","$version":2}`)))
		for _, method := range []string{"lockDoor", "flaky", "quiet", "ping"} {
			for nth := 1; nth <= 2; nth++ {
				r := f.Invoke(i, method, nth, []byte(`{"lockTime": "10m"}`))
				fmt.Fprintf(&b, "  %s %d: %s\n", method, nth, reaction(r))
			}
		}
		for m, id := range f.Modules(i) {
			tw := f.ModuleTwin(i, m)
			fmt.Fprintf(&b, "  module %s: tags %s snap %s\n", id, tw.Tags, reaction(f.InvokeModule(i, m, "snap", 1, nil)))
		}
		for _, op := range []fleet.Operation{fleet.OpMethod, fleet.OpTwinRead} {
			for nth := 1; nth <= 2; nth++ {
				c := fleet.Call{Operation: op, Device: i, NthOfDevice: nth, NthOfHub: 2*i + nth}
				if ft, ok := f.Fault(c, 2*time.Minute); ok {
					fmt.Fprintf(&b, "  fault of %s %d: %+v\n", op, nth, ft)
				}
			}
		}
	}
	return b.String()
}

func reaction(r fleet.Reaction) string {
	return fmt.Sprintf("kind %d status %d payload %s after %v", r.Kind, r.Status, r.Payload, r.Latency)
}

// Whatever a fleet says in JSON is JSON, for the hub will take it as such.
func TestFleetsSpeakJSON(t *testing.T) {
	for _, file := range corpus(t, "testdata/ok") {
		f, err := fleet.Parse(file, read(t, file))
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Len() {
			checkJSON(t, f, i)
		}
	}
}

func checkJSON(tb testing.TB, f *fleet.Fleet, i int) {
	tb.Helper()
	tw := f.Twin(i)
	for name, section := range map[string]json.RawMessage{"tags": tw.Tags, "desired": tw.Desired, "reported": tw.Reported} {
		var object map[string]any
		if section != nil && json.Unmarshal(section, &object) != nil {
			tb.Errorf("Twin(%d): %s is no JSON object: %s", i, name, section)
		}
	}
	for _, method := range []string{"lockDoor", "flaky", "quiet", "ping", `"\`} {
		for nth := 1; nth < 9; nth++ {
			r := f.Invoke(i, method, nth, []byte(`{"lockTime":"\"10m\""}`))
			if r.Kind == fleet.Garbage && json.Valid(r.Payload) {
				tb.Errorf("Invoke(%d, %s): garbage that is JSON: %s", i, method, r.Payload)
			}
			if r.Kind == fleet.Answers && r.Payload != nil && !json.Valid(r.Payload) {
				tb.Errorf("Invoke(%d, %s): an answer that is not JSON: %s", i, method, r.Payload)
			}
		}
	}
}

func corpus(tb testing.TB, dir string) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no files in %s: %v", dir, err)
	}
	return files
}

func read(tb testing.TB, file string) []byte {
	tb.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return src
}

func golden(tb testing.TB, file, got string) {
	tb.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(tb, file)), got); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/preview"
	"iothub-runner/spec"
)

var (
	update = flag.Bool("update", false, "rewrite the golden files")
	large  = flag.Bool("large", false, "render the large forecasts")
)

// golden compares a text with the file that holds what it should be.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "preview", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func rendered(tb testing.TB, format string, f *preview.Forecast) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := PreviewFormat(format)(&b, f); err != nil {
		tb.Fatalf("write as %s: %v", format, err)
	}
	return b.Bytes()
}

func when(minutes int) spec.Time {
	return spec.Time{Time: time.Date(2026, 11, 22, 23, 15, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)}
}

func sections(desired, tags string) *spec.Sections {
	s := &spec.Sections{}
	if desired != "" {
		s.Desired = json.RawMessage(desired)
	}
	if tags != "" {
		s.Tags = json.RawMessage(tags)
	}
	return s
}

// everything is a forecast in which everything happens that can.
func everything() *preview.Forecast {
	end, deadline := when(12), when(120)
	waves := []spec.Time{when(0), when(6)}
	load := preview.Load{Requests: map[string]int{"queries": 3, "twinReads": 20, "twinUpdates": 181, "methodCalls": 1}, Messages: 240, Seconds: 9, Limit: "queries", Quota: 400_000, PerDay: 0.0006}
	return &preview.Forecast{
		Schema: preview.ForecastSchema, Plan: spec.PlanRef{Name: "lock-building-43", File: "plans/lock.yaml", SHA256: "ab"},
		Hubs: []preview.HubForecast{{Name: "contoso.azure-devices.net", SKU: "S1", Units: 1}}, CreatedAt: when(0), TwinsFrom: "index",
		Summary: preview.ForecastSummary{Targets: 205, Changes: 181, Calls: 1, Unchanged: 20, Failing: 3, Load: load},
		Warnings: []string{
			"job move takes 12m at least, its window closes after 5m: not every device will be reached in it",
		},
		Jobs: []preview.JobForecast{
			{
				Name: "move", Type: spec.TypeUpdateTwin, Target: "tags.building = 43 AND tags.a = 'x|y'", StartsAt: when(0), EndsAt: &end, Deadline: &deadline,
				Window: &preview.Opening{From: when(0), To: when(5)}, Targets: 203, Changes: 181, Unchanged: 20, Failing: 2,
				Waves: []preview.WaveForecast{
					{Wave: "1", Targets: 1, StartsAt: &waves[0], Devices: []string{"door-1"}}, {Wave: "10", Targets: 9, StartsAt: &waves[1]}, {Wave: "100%", Targets: 193},
				}, Pause: "5m0s",
				Load: preview.Load{Requests: map[string]int{"queries": 3, "twinReads": 20, "twinUpdates": 181}, Seconds: 720, Limit: "rate"},
				Groups: []preview.Group{
					{Count: 2, Devices: []string{"door-8", "door-9"}, Error: "the device's tags.site is missing"},
					{Count: 150, Devices: []string{"door-1", "door-2", "door-3", "door-4", "door-5", "door-6"}, Before: sections(`{"building":42,"floor":null}`, `{"old":"x"}`), Patch: sections(`{"building":43,"floor":3}`, `{"old":null}`)},
					{Count: 31, Devices: []string{"gate-1", "gate-2"}, Various: true, Varies: []string{"before.desired.cfg.a"}, Before: sections(`{"cfg":{"a":1}}`, ""), Patch: sections(`{"cfg":{"a":2}}`, "")},
					{Count: 20, Devices: []string{"door-7"}, Unchanged: true},
				},
			},
			{
				Name: "lock", Type: spec.TypeDirectMethod, Target: "devices: door-1, door-0", StartsAt: when(13), After: []string{"move"}, Targets: 2, Calls: 1, Failing: 1,
				Load: preview.Load{Requests: map[string]int{"methodCalls": 1}},
				Groups: []preview.Group{
					{Count: 1, Devices: []string{"door-0"}, Error: "hub answered 404001 DeviceNotFound"},
					{Count: 1, Devices: []string{"door-1"}, Call: &preview.CallForecast{MethodName: "lockDoor", Payload: json.RawMessage("{\"note\":\"a|b `c`\"}"), ResponseTimeoutInSeconds: 30}},
				},
			},
			{Name: "empty", Type: spec.TypeDirectMethod, Target: "tags.building = 99", StartsAt: when(0), Stopped: "the target matched no device", Groups: []preview.Group{}},
			{Name: "broken", Type: spec.TypeDirectMethod, Target: "tags.x = 1", StartsAt: when(0), Error: "hub answered HTTP 400", Groups: []preview.Group{}},
		},
	}
}

func TestPreviewGolden(t *testing.T) {
	nothing := &preview.Forecast{
		Schema: preview.ForecastSchema, Plan: spec.PlanRef{Name: "calm", File: "calm.yaml"}, TwinsFrom: "twins", CreatedAt: when(0),
		Hubs: []preview.HubForecast{{Name: "contoso.azure-devices.net"}}, Summary: preview.ForecastSummary{Targets: 1, Unchanged: 1, Load: preview.Load{Requests: map[string]int{"queries": 2, "twinReads": 1}}},
		Jobs: []preview.JobForecast{{Name: "a", Type: spec.TypeUpdateTwin, Target: "all devices", StartsAt: when(0), Targets: 1, Unchanged: 1, Groups: []preview.Group{{Count: 1, Devices: []string{"d"}, Unchanged: true}}}},
	}
	golden(t, "everything.txt", rendered(t, "text", everything()))
	golden(t, "everything.md", rendered(t, "markdown", everything()))
	golden(t, "filled.txt", rendered(t, "text", filled()))
	golden(t, "filled.md", rendered(t, "markdown", filled()))
	golden(t, "nothing.txt", rendered(t, "text", nothing))
	golden(t, "nothing.md", rendered(t, "markdown", nothing))
}

// filled is a forecast of a plan that fills in values of each device.
func filled() *preview.Forecast {
	f := everything()
	f.Warnings = nil
	move := preview.JobForecast{Name: "move", Type: spec.TypeUpdateTwin, Target: "all devices", StartsAt: when(0), Targets: 520, Changes: 520}
	lock := preview.JobForecast{Name: "lock", Type: spec.TypeDirectMethod, Target: "all devices", StartsAt: when(0), Targets: 520, Calls: 519, Failing: 1}
	lock.Groups = []preview.Group{{Count: 1, Devices: []string{"door-9"}, Error: "the device's tags.site is missing"}}
	for i := range 8 {
		id := []string{fmt.Sprintf("door-%d", i), fmt.Sprintf("gate-%d", i)}
		move.Groups = append(move.Groups, preview.Group{
			Count: 60, Devices: id,
			Before: sections(fmt.Sprintf(`{"floor":%d,"building":41}`, i%4), ""), Patch: sections(fmt.Sprintf(`{"floor":3,"building":43,"note":"%s|%d"}`, id[0], i), ""),
		})
		lock.Groups = append(lock.Groups, preview.Group{
			Count: 60, Devices: id,
			Call: &preview.CallForecast{MethodName: "lockDoor", Payload: json.RawMessage(fmt.Sprintf(`{"lockTime":"10m","door":{"id":"%s","keys":[]}}`, id[0])), ResponseTimeoutInSeconds: 30},
		})
	}
	move.Groups = append(move.Groups,
		preview.Group{Count: 39, Devices: []string{"lift-1"}, Before: sections(`{"floor":9}`, ""), Patch: sections(`{"floor":3}`, "")},
		preview.Group{Count: 1, Devices: []string{"lift-2"}, Before: sections(`{"floor":8}`, ""), Patch: sections(`{"floor":3}`, "")})
	f.Jobs = []preview.JobForecast{move, lock}
	return f
}

// hostile is a forecast that tries to break out of whatever shows it.
func hostile(groups, properties int, word string) *preview.Forecast {
	f := everything()
	f.Plan.File = word
	f.Hubs[0].Name = word
	f.Warnings = nil
	for range 100 {
		f.Warnings = append(f.Warnings, word)
	}
	f.Jobs = nil
	text, err := json.Marshal(word)
	if err != nil {
		panic(err)
	}
	var patch bytes.Buffer
	for p := range properties {
		fmt.Fprintf(&patch, `,"p%d":%s`, p, text)
	}
	patched := "{" + patch.String()[1:] + "}"
	for k := range 300 {
		j := preview.JobForecast{Name: fmt.Sprintf("job-%d", k), Type: spec.TypeUpdateTwin, Target: word, StartsAt: when(0), After: []string{word, word}, Targets: 1_000_000, Changes: 1_000_000}
		for i := range groups / 300 {
			j.Groups = append(j.Groups, preview.Group{Count: 1000, Devices: []string{word, fmt.Sprint(i), word, word}, Before: sections("{}", ""), Patch: sections(patched, "")})
		}
		f.Jobs = append(f.Jobs, j)
	}
	return f
}

// Whatever it shows, a comment has less than 60,000 characters, at most 50 rows
// in the open, and tables and folds that are whole.
func TestMarkdownIsBounded(t *testing.T) {
	t.Parallel()
	sizes := []struct{ groups, properties int }{{300, 1}, {1500, 1}, {300, 60}, {300, 300}}
	if *large {
		sizes = append(sizes, sizes[0], sizes[0])
		sizes[4].groups, sizes[5].groups, sizes[5].properties = 9000, 3000, 300
	}
	words := []string{"x", strings.Repeat("long ", 300), strings.Repeat("longer ", 2000), "a|b\n| c | d |\n</details>", "`", "```\n# x", "\u202edesrever\x1b[31m", "@everyone #1 <!-- <script>", "ȁ漢𝔘"}
	for _, word := range words {
		for _, size := range sizes {
			if size.properties*len(word) > 100_000 {
				continue
			}
			text := string(rendered(t, "markdown", hostile(size.groups, size.properties, word)))
			name := fmt.Sprintf("%.10q in %d groups of %d properties", word, size.groups, size.properties)
			if n := utf8.RuneCountInString(text); n >= 60_000 {
				t.Errorf("%s: %d characters", name, n)
			}
			checkMarkdown(t, name, text)
		}
	}
}

// checkMarkdown fails the test unless every row has the columns of its table,
// and nothing steers a terminal or closes a fold too early.
func checkMarkdown(t *testing.T, name, text string) {
	t.Helper()
	columns, open, rows := 0, true, 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "<details>"):
			open = false
		case strings.HasPrefix(line, "|"):
			n := separators(line)
			if columns == 0 {
				columns = n
			}
			if n != columns {
				t.Fatalf("%s: a row with %d columns in a table of %d: %s", name, n, columns, line)
			}
			if columns == 7 && open && !strings.HasPrefix(line, "|---") && !strings.HasPrefix(line, "| job |") {
				rows++
			}
		default:
			columns = 0
		}
	}
	plain := withoutCode(text)
	folds, unfolds := strings.Count(plain, "<details>"), strings.Count(plain, "</details>")
	if folds > 1 || folds != unfolds || strings.Contains(plain, "<script") || strings.Contains(plain, "@") || strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("%s: the text breaks out of where it stands", name)
	}
	if rows == 0 || rows > 50 {
		t.Errorf("%s: %d rows are in the open, want at most 50 and some", name, rows)
	}
}

// withoutCode removes what stands in backticks: there, markup is only text.
func withoutCode(text string) string {
	var b strings.Builder
	for {
		start := strings.IndexByte(text, '`')
		if start < 0 {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:start])
		text = text[start:]
		fence := text[:len(text)-len(strings.TrimLeft(text, "`"))]
		text = text[len(fence):]
		for end := 0; ; {
			i := strings.Index(text[end:], fence)
			if i < 0 {
				return b.String() + fence + text
			}
			end += i
			run := len(text[end:]) - len(strings.TrimLeft(text[end:], "`"))
			if run == len(fence) {
				text = text[end+run:]
				break
			}
			end += run
		}
	}
}

// separators counts what separates the cells of a row.
func separators(line string) int {
	n := 0
	for i := range len(line) {
		if line[i] == '|' && (i == 0 || line[i-1] != '\\') {
			n++
		}
	}
	return n
}

// A terminal is not steered either.
func TestPreviewTextIsSafe(t *testing.T) {
	text := string(rendered(t, "text", hostile(300, 2, "\x1b[31m\u202e"+strings.Repeat("y", 500))))
	if strings.ContainsAny(text, "\x1b\u202e") {
		t.Error("the text holds what steers a terminal")
	}
	for line := range strings.Lines(text) {
		if utf8.RuneCountInString(line) > 1500 {
			t.Fatalf("a line of %d characters: %.100s", len(line), line)
		}
	}
}

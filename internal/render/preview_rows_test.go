package render

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"iothub-runner/internal/preview"
	"iothub-runner/spec"
)

// crowded is a forecast whose first job has more rows than are in the open, and
// whose texts are markup to whoever takes them for it.
func crowded(groups int) *preview.Forecast {
	f := everything()
	f.Warnings = []string{"job label would fail: 1 of its 3 targets cannot be done; what needs its success would not start: lock"}
	move := preview.JobForecast{
		Name: "move", Type: spec.TypeUpdateTwin, Target: `tags.site = 'a\|b' AND tags.x = '<b>'`, StartsAt: when(0),
		Targets: groups, Limit: groups, Changes: groups,
	}
	for i := range groups {
		move.Groups = append(move.Groups, preview.Group{
			Count: 1, Devices: []string{fmt.Sprintf("door-%04d", i)},
			Before: sections(fmt.Sprintf(`{"floor":1,"n%d":null,"s":"\u003cb\u003e"}`, i), ""), Patch: sections(fmt.Sprintf(`{"floor":3,"n%d":%d,"s":"caf\u00e9 \\u003c"}`, i, i), ""), // no two change the same
		})
	}
	call := preview.CallForecast{MethodName: "lockDoor", Payload: json.RawMessage(`{"text":"` + "```js\\n</details>\\n| a | b |\\n```" + `"}`), ResponseTimeoutInSeconds: 30}
	f.Jobs = []preview.JobForecast{
		move,
		{
			Name: "label", Type: spec.TypeUpdateTwin, Target: "devices: a*_b_*@octocat#12", StartsAt: when(0), Targets: 3, Changes: 2, Failing: 1,
			Groups: []preview.Group{
				{Count: 1, Devices: []string{"plain:warning:"}, Error: "no value for @octocat, see #12 & ~~this~~ <!-- x -->"},
				{Count: 2, Devices: []string{"a*_b_*@octocat#12", "it's(x)?!"}, Before: sections("", `{}`), Patch: sections("", `{"site":"</details> a\\|b"}`)},
			},
		},
		{
			Name: "lock", Type: spec.TypeDirectMethod, Target: "devices: door-1", StartsAt: when(9), After: []string{"move", "label"}, AfterAny: []string{"label"}, Targets: 1, Calls: 1,
			Groups: []preview.Group{{Count: 1, Devices: []string{"door-1"}, Call: &call}},
		},
		{Name: "nightly", Type: spec.TypeDirectMethod, Target: "all devices", StartsAt: when(0), Stopped: "its at has passed, and ifLate is skip", Skipped: true, Groups: []preview.Group{}},
	}
	return f
}

func TestPreviewOfACrowd(t *testing.T) {
	golden(t, "crowded.txt", rendered(t, "text", crowded(18)))
	golden(t, "crowded.md", rendered(t, "markdown", crowded(18)))
	checkMarkdown(t, "a crowd", string(rendered(t, "markdown", crowded(18))))
}

// Every row is accounted for: in the open, folded away, or said to have no room.
// No table begins with a row that does not say whom it is about.
func TestMarkdownCountsItsRows(t *testing.T) {
	for _, groups := range []int{1, 15, 17, 18, 100, 300, 2000} {
		text := string(rendered(t, "markdown", crowded(groups)))
		open, folded, fold := strings.Cut(text, "<details><summary>")
		shown, inFold := rowsIn(open), rowsIn(folded)
		more := number(t, `(\d+) more rows?</summary>`, text)
		left := number(t, `no room for (\d+) of them`, text)
		if want := 3*groups + 3; shown+more != want || fold && inFold+left != more {
			t.Errorf("%d groups: %d rows in the open and %d more, of which %d are folded and %d left out; want %d in all", groups, shown, more, inFold, left, want)
		}
		if want := min(50, 3*groups+3); shown != want {
			t.Errorf("%d groups: %d rows in the open, want %d", groups, shown, want)
		}
		for _, job := range []string{"move", "label", "lock"} {
			if !strings.Contains(open, "\n| `"+job+"` | 1 | ") && !strings.Contains(open, "\n| `"+job+"` | 2 | ") {
				t.Errorf("%d groups: job %s has no row in the open", groups, job)
			}
		}
		if strings.Contains(text, "|---|--:|---|---|---|---|\n| | | |") {
			t.Errorf("%d groups: a table begins with a row of nobody", groups)
		}
	}
}

var differences = regexp.MustCompile("(?m)^\\| (`(move|label|lock)` \\| \\d+ \\| .*|\\| \\| \\| `.*)$")

func rowsIn(text string) int {
	if i := strings.Index(text, "| job | devices |"); i >= 0 {
		text = text[i:]
	}
	return len(differences.FindAllString(text, -1))
}

func number(t *testing.T, pattern, text string) int {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What cannot be done takes half of the rows in the open at most.
func TestMarkdownShowsMoreThanFailures(t *testing.T) {
	f := crowded(1)
	for i := range 80 {
		failing := preview.Group{Count: 1, Devices: []string{fmt.Sprint("d", i)}, Error: "the device's tags.site is missing"}
		f.Jobs = slices.Insert(f.Jobs, 0, preview.JobForecast{Name: fmt.Sprint("job-", i), StartsAt: when(0), Groups: []preview.Group{failing}})
	}
	open, _, _ := strings.Cut(string(rendered(t, "markdown", f)), "<details>")
	if n := strings.Count(open, "**cannot be done**"); n != markdownFails {
		t.Errorf("%d failures in the open, want %d", n, markdownFails)
	}
	if !strings.Contains(open, "call `lockDoor`") || !strings.Contains(open, "`desired.floor`") {
		t.Errorf("the other jobs are hidden by failures:\n%s", open)
	}
}

func TestPlainJSON(t *testing.T) {
	for raw, want := range map[string]string{
		`{"a":"\u003cb\u003e \u0026"}`: `{"a":"<b> &"}`,
		`"\\u003c \\\u003c"`:           `"\\u003c \\<"`,
		`"\u0022 \u005c \u000a"`:       `"\u0022 \u005c \u000a"`,
		`"\ud83d\ude00 \u00e9"`:        `"\ud83d\ude00 é"`,
		`"\u202e"`:                     `"\u202e"`,
		`"\u12`:                        `"\u12`,
		`"\`:                           `"\`,
	} {
		if got := plainJSON(raw); got != want {
			t.Errorf("plainJSON(%s) = %s, want %s", raw, got, want)
		}
	}
}

// A text in a cell is no markup, mentions nobody and ends no cell.
func TestMarkdownTexts(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{code("a|b", 100), "`a\\|b`"},
		{code("a`b", 100), "`` a`b ``"},
		{code(`a\|b <c>`, 100), `<code>a\\\|b &lt;c></code>`},
		{cell("@octocat #12 & <b> ~x~ *y* [z](w)"), `&#64;&#8203;octocat &#35;&#8203;12 &amp; &lt;b> \~x\~ \*y\* \[z\](w)`},
	} {
		if tt.got != tt.want {
			t.Errorf("have %s, want %s", tt.got, tt.want)
		}
	}
}

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// block is a fenced block of a page.
type block struct {
	lang string
	text string
	line int
}

// blocks returns the fenced blocks of a page.
func blocks(t *testing.T, file string) []block {
	t.Helper()
	return blocksOf(t, file, readText(t, file))
}

func blocksOf(t *testing.T, file, text string) []block {
	t.Helper()
	var all []block
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{lang: fence, line: i + 1}
		case isFence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block does not end", file, open.line)
	}
	return all
}

func pages() []string {
	return []string{"../../README.md", guidePage, outcomesPage, "../../docs/comparison.md", "../../docs/architecture.md"}
}

const (
	guidePage    = "../../docs/guide.md"
	outcomesPage = "../../docs/outcomes.md"
)

// quick makes a plan's delays of seconds ones of hundredths: the plan itself is
// run at its own pace by the script tutorial.
func quick(plan string) string {
	return regexp.MustCompile(`delay: (\d+)s`).ReplaceAllString(plan, "delay: ${1}0ms")
}

// file is the name in the first line of a block that is to be saved; else empty. Such
// blocks belong to the tasks of the guide.
func (b block) file() string {
	m := regexp.MustCompile(`^# (\S+\.yaml)\n`).FindStringSubmatch(b.text)
	if m == nil {
		return ""
	}
	return m[1]
}

// TestDocumentedPlans applies every plan on the pages to the emulator. Those of the
// guide's tasks have fleets of their own.
func TestDocumentedPlans(t *testing.T) {
	t.Parallel()
	n := 0
	for _, page := range pages() {
		for _, b := range blocks(t, page) {
			if b.lang != "yaml" || b.file() != "" {
				continue
			}
			n++
			plan := filepath.Join(t.TempDir(), "plan.yaml")
			if err := os.WriteFile(plan, []byte(quick(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := apply(t, "--emulator", plan)
			if code != exit.OK || strings.Contains(stderr, "warning") {
				t.Errorf("%s:%d: exit code %d, want 0 without warnings\n%s", page, b.line, code, stderr)
			}
			if err := checkReport([]byte(stdout)); err != nil {
				t.Errorf("%s:%d: %v", page, b.line, err)
			}
		}
	}
	if n < 4 {
		t.Errorf("%d plans on the pages, want 4 at least", n)
	}
}

// TestGuideTasks carries the guide's tasks out: it saves the files of each as the page
// shows them, and runs the commands as they stand there. The fleet has fewer doors
// than the page says.
func TestGuideTasks(t *testing.T) {
	t.Parallel()
	tasks, _, _ := strings.Cut(readText(t, guidePage), "\n## Reference\n")
	_, tasks, _ = strings.Cut(tasks, "\n## ")
	titles := map[string]bool{}
	for task := range strings.SplitSeq(tasks, "\n## ") {
		title, _, _ := strings.Cut(task, "\n")
		titles[title] = true
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			campus := strings.Replace(readText(t, "../../examples/fleets/campus.yaml"), "count: 10000", "count: 2500", 1)
			write(t, filepath.Join(dir, "examples", "fleets", "campus.yaml"), campus)
			applied := map[string]bool{}
			all := blocksOf(t, title, task)
			for _, b := range all {
				if m := regexp.MustCompile(`\bdevicesFile: ([\w.]+)`).FindStringSubmatch(b.text); m != nil {
					write(t, filepath.Join(dir, m[1]), csvOf(t, all))
				}
				if b.lang == "yaml" && b.file() == "" {
					t.Errorf("a block of the task says no file:\n%s", b.text)
				} else if b.lang == "yaml" {
					write(t, filepath.Join(dir, b.file()), b.text)
					applied[b.file()] = !strings.Contains(b.text, "\njobs:") // a fleet is not applied
				}
			}
			for _, b := range all {
				if b.lang == "console" {
					carryOut(t, dir, b.text, applied)
				}
			}
			if len(applied) == 0 {
				t.Error("the task has no plan")
			}
			for file, done := range applied {
				if !done {
					t.Errorf("no command of the task applies %s", file)
				}
			}
		})
	}
	if len(titles) != 10 {
		t.Errorf("the guide has %d tasks, want 10", len(titles))
	}
}

// carryOut runs commands in a folder, each with the exit code that its comment says,
// and notes which plans they apply.
func carryOut(t *testing.T, dir, commands string, applied map[string]bool) {
	t.Helper()
	for line := range strings.Lines(commands) {
		args, ok := strings.CutPrefix(strings.TrimSpace(line), "$ runner ")
		if !ok {
			t.Errorf("%q is not a command of runner", line)
			continue
		}
		args, comment, _ := strings.Cut(args, "#")
		want := exit.OK
		if comment != "" {
			if _, err := fmt.Sscanf(comment, " exit code %d", &want); err != nil {
				t.Errorf("the comment of %q is no exit code", line)
			}
		}
		fields := strings.Fields(args)
		if code, output := runnerIn(t, dir, fields...); code != want || strings.Contains(output, "warning") {
			t.Errorf("%s: exit code %d, want %d without warnings\n%s", line, code, want, output)
		}
		if fields[0] == "apply" {
			applied[fields[len(fields)-1]] = true
		}
	}
}

// csvOf returns the table among the blocks of a task.
func csvOf(t *testing.T, all []block) string {
	t.Helper()
	for _, b := range all {
		if b.lang == "csv" {
			return b.text
		}
	}
	t.Error("the task has no table")
	return ""
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runnerIn runs a command in a folder and a process of its own, because the time of a
// rehearsal is that of its process.
func runnerIn(t *testing.T, dir string, args ...string) (code int, output string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runner := filepath.Join(t.TempDir(), "runner")
	if err = os.Symlink(self, runner); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), runner, args...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestREADMEPlanIsTheTutorial: the first plan on the page is the file that the
// first command names.
func TestREADMEPlanIsTheTutorial(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../../examples/tutorial.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if plan := blocks(t, "../../README.md")[0].text; !strings.HasSuffix(string(file), plan) {
		t.Errorf("the README's plan is not that of examples/tutorial.yaml:\n%s", plan)
	}
}

// TestREADMEOutput runs the README's first command and finds every line that
// the page shows, in its order, in what comes out.
func TestREADMEOutput(t *testing.T) {
	t.Parallel()
	b := blocks(t, "../../README.md")[1]
	command, shown, _ := strings.Cut(b.text, "\n")
	args, ok := strings.CutPrefix(command, "$ go run ./cmd/runner apply --emulator ")
	if !ok {
		t.Fatalf("README.md:%d: the first command is %q", b.line, command)
	}
	text, err := os.ReadFile(filepath.Join("../..", args))
	if err != nil {
		t.Fatal(err)
	}
	plan := filepath.Join(t.TempDir(), "tutorial.yaml")
	// The second job begins long after the first has ended, also on a busy machine.
	apart := strings.Replace(quick(string(text)), "delay: 200ms", "delay: 4s", 1)
	if err := os.WriteFile(plan, []byte(apart), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := apply(t, "--emulator", plan)
	if code != exit.OK {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	rest := timeless(stderr + stdout)
	for line := range strings.Lines(timeless(stderr)) { // a reader compares them one by one
		if !strings.Contains(timeless(shown), line) {
			t.Errorf("README.md does not show %q", line)
		}
	}
	for line := range strings.Lines(timeless(shown)) {
		if strings.TrimSpace(line) == "…" {
			continue
		}
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Fatalf("README.md shows a line that does not come, or not in this place:\n%s\nwhat comes:\n%s", line, rest)
		}
		rest = after
	}
}

// timeless puts one and the same value where each run has its own.
func timeless(text string) string {
	for _, r := range []struct{ pattern, with string }{
		{`\d{4}-\d\d-\d\dT[\d:.]+Z`, "TIME"},
		{`\d{8}T\d{6}Z-[0-9a-f]{6}`, "ID"},
		{`\b\d+(\.\d+)?(ms|s)\b`, "DURATION"},
		{`\(\S+, sha256 [0-9a-f]+\)`, "(FILE)"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	return text
}

// TestDocumentedFlags finds every flag on the pages among those of the commands.
func TestDocumentedFlags(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"help": true, "version": true}
	var commands []*cobra.Command
	for _, cmd := range newRoot(environment{}).Commands() {
		commands = append(append(commands, cmd), cmd.Commands()...)
	}
	for _, cmd := range commands {
		for m := range strings.FieldsSeq(cmd.Flags().FlagUsages()) {
			if name, ok := strings.CutPrefix(strings.TrimRight(m, ","), "--"); ok {
				name, _, _ = strings.Cut(name, "[")
				known[name] = true
			}
		}
	}
	for _, page := range pages() {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "az iot ") {
				continue
			}
			for _, m := range regexp.MustCompile("(?:^|[ `(])--([a-z-]+)").FindAllStringSubmatch(line, -1) {
				if !known[m[1]] {
					t.Errorf("%s names the flag --%s, which no command has", page, m[1])
				}
			}
		}
	}
}

// TestDocumentedLinks: what the pages link to in the repository is there.
func TestDocumentedLinks(t *testing.T) {
	t.Parallel()
	for _, page := range pages() {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to what is not there: %v", page, err)
			}
		}
	}
}

// TestDocumentedAnchors: the headings that the pages link to are there.
func TestDocumentedAnchors(t *testing.T) {
	t.Parallel()
	for _, page := range pages() {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)#([^)]+)\)`).FindAllStringSubmatch(readText(t, page), -1) {
			file := page
			if m[1] != "" {
				file = filepath.Join(filepath.Dir(page), m[1])
			}
			if !slices.Contains(anchors(readText(t, file)), m[2]) {
				t.Errorf("%s links to %s#%s, and there is no such heading", page, m[1], m[2])
			}
		}
	}
}

// anchors returns how the headings of a page are linked to.
func anchors(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		plain := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}

// TestDocumentedTables: the README's tables have every outcome and every exit
// code.
func TestDocumentedTables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	table := section(t, string(text), "## Outcomes")
	for _, o := range spec.Outcomes() {
		if !strings.Contains(table, "\n| `"+string(o)+"` | ") {
			t.Errorf("the README's table of outcomes lacks %s", o)
		}
	}
	if n := strings.Count(table, "\n| `"); n != len(spec.Outcomes()) {
		t.Errorf("the README's table has %d outcomes, want %d", n, len(spec.Outcomes()))
	}
	table = section(t, string(text), "## Exit codes")
	for _, code := range []int{
		exit.OK, exit.Missed, exit.Invalid, exit.Hub, exit.Stopped, exit.Locked, exit.Mismatch, exit.Internal, exit.SIGHUP, exit.SIGINT, exit.SIGTERM,
	} {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^\| (\d+, )*%d[ ,]`, code)).MatchString(table) {
			t.Errorf("the README's table of exit codes lacks %d", code)
		}
	}
}

// section returns what stands under a heading.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n"+heading+"\n")
	if !found {
		t.Fatalf("no heading %q", heading)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// TestDocumentedJQ runs the guide's questions to a report, where jq is at hand.
func TestDocumentedJQ(t *testing.T) {
	t.Parallel()
	var script strings.Builder
	for _, b := range append(blocks(t, guidePage), blocks(t, outcomesPage)...) {
		if b.lang == "sh" && strings.Contains(b.text, "jq ") {
			script.WriteString(regexp.MustCompile(`(?m)^runner .*\n`).ReplaceAllString(b.text, ""))
		}
	}
	if strings.Count(script.String(), "jq ") < 5 {
		t.Fatalf("the guide asks few questions:\n%s", &script)
	}
	if _, err := exec.LookPath("jq"); err != nil {
		t.Log("jq is not installed: the guide's questions are not asked")
		return
	}
	dir := t.TempDir()
	code, _, stderr := apply(t, "--emulator=../../examples/fleets/sensors.yaml", "--report", filepath.Join(dir, "report.json"), "../../examples/firmware.yaml")
	if code != exit.Missed {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", script.String())
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("jq: %v\n%s", err, out)
	}
	for _, want := range []string{`"failed"`, `"rejected": 8`, "install\tk2-", "\"409\": 8", "target: {devices: [\"k2-"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the answers lack %q:\n%s", want, out)
		}
	}
}

// TestDocumentedOutcomes: the page of outcomes has a section for each outcome, every
// kind of error that a row can have, and no kind or code that there is not.
func TestDocumentedOutcomes(t *testing.T) {
	t.Parallel()
	text := readText(t, outcomesPage)
	for _, o := range spec.Outcomes() {
		if body := section(t, text, "## "+string(o)); !strings.Contains(body, "**Known:**") || !strings.Contains(body, "**Do now:**") {
			t.Errorf("the section of %s does not say what is known and what to do now", o)
		}
	}
	emitted, named := errorKinds(t), map[string]bool{"none": true}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(text[:strings.Index(text, "\n## The status of a job")], -1) {
		for kind := range strings.SplitSeq(row[1], ", ") {
			kind = strings.Trim(kind, "`")
			if named[kind] = true; !emitted[kind] && kind != "error.kind" {
				t.Errorf("the page names the kind %q, which no row has", kind)
			}
		}
	}
	for kind := range emitted {
		if !named[kind] {
			t.Errorf("the page lacks the kind %q", kind)
		}
	}
	codes := readText(t, "../../internal/hubclient/codes.go")
	for _, code := range regexp.MustCompile(`\b\d{6}\b`).FindAllString(text, -1) {
		if !regexp.MustCompile(`(?m)^` + code + ` \w+$`).MatchString(codes) {
			t.Errorf("the page names the code %s, which the client does not know", code)
		}
	}
}

// errorKinds returns what error.kind can be in a row: what a call to the hub can come
// to, and what the runner itself writes there.
func errorKinds(t *testing.T) map[string]bool {
	t.Helper()
	kinds := map[string]bool{}
	for k := hub.KindNotSent; k <= hub.KindBadAnswer; k++ {
		kinds[k.String()] = true
	}
	files, err := filepath.Glob("../../runner/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?:RowError\{Kind: |\bkind[A-Z]\w+ += )"(\w+)"`).FindAllStringSubmatch(readText(t, file), -1) {
			kinds[m[1]] = true
		}
	}
	return kinds
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocumentedPackages: the page about the architecture names every package, and
// none that is gone.
func TestDocumentedPackages(t *testing.T) {
	t.Parallel()
	text := readText(t, "../../docs/architecture.md")
	dirs, err := os.ReadDir("../../internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if dir.IsDir() && !regexp.MustCompile(`\b`+dir.Name()+`\b`).MatchString(text) {
			t.Errorf("docs/architecture.md does not name internal/%s", dir.Name())
		}
	}
	picture := blocksOf(t, "architecture.md", text)[0].text
	for _, m := range regexp.MustCompile(`(?m)(?:^ (?:\|  )?| {3,})(\w+)  +\w`).FindAllStringSubmatch(picture, -1) {
		if _, err := os.Stat("../../internal/" + m[1]); err != nil && m[1] != "runner" && m[1] != "spec" {
			t.Errorf("docs/architecture.md has a package that there is not: %v", err)
		}
	}
}

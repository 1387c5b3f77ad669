package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"gopkg.in/yaml.v3"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

// ciScript is a script in a pipeline that we show people.
type ciScript struct {
	name string // of the step, as the log shows it
	text string
}

// ciScripts returns the scripts of a pipeline of either forge, in the order in
// which they stand.
func ciScripts(file string) ([]ciScript, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	var all []ciScript
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.MappingNode {
			var s ciScript
			for i := 0; i+1 < len(n.Content); i += 2 {
				value := n.Content[i+1]
				switch n.Content[i].Value {
				case "name", "displayName":
					s.name = value.Value
				case "run", "bash":
					s.text = value.Value
				case "inputs":
					s.text = inlineScript(value)
				}
			}
			if s.text != "" {
				all = append(all, s)
			}
		}
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(&doc)
	return all, nil
}

func inlineScript(inputs *yaml.Node) string {
	for i := 0; i+1 < len(inputs.Content); i += 2 {
		if inputs.Content[i].Value == "inlineScript" {
			return inputs.Content[i+1].Value
		}
	}
	return ""
}

func pipelines() []string {
	return []string{"../../examples/ci/github-actions.yml", "../../examples/ci/azure-pipelines.yml"}
}

// Every script of the pipelines is one that bash can read, and every runner in
// it is called with flags that it has.
func TestPipelinesCallRunnerRight(t *testing.T) {
	for _, file := range pipelines() {
		scripts, err := ciScripts(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		commands := map[string]int{}
		for _, s := range scripts {
			check := exec.CommandContext(t.Context(), "bash", "-n")
			check.Stdin = strings.NewReader(s.text)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s: step %q: %v\n%s", file, s.name, err, out)
			}
			for _, args := range calls(s.text) {
				commands[args[0]]++
				checkCall(t, file+": step "+s.name, args)
			}
		}
		if commands["validate"] != 1 || commands["preview"] != 2 || commands["apply"] != 2 {
			t.Errorf("%s calls runner as %v, want one validate, and preview and apply for the rehearsal and for real", file, commands)
		}
	}
}

// calls returns the arguments of each runner in a script.
func calls(script string) [][]string {
	script = strings.ReplaceAll(script, "\\\n", " ")
	var all [][]string
	for line := range strings.Lines(script) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "runner ")
		if !ok {
			continue
		}
		rest, _, _ = strings.Cut(rest, " || ")
		rest, _, _ = strings.Cut(rest, " >")
		all = append(all, strings.Fields(strings.NewReplacer(`"`, "", `$`, "").Replace(rest)))
	}
	return all
}

func checkCall(t *testing.T, where string, args []string) {
	t.Helper()
	root := newRoot(environment{getenv: func(string) string { return "" }, stdin: &bytes.Buffer{}, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}})
	cmd, rest, err := root.Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil && cmd.Args != nil {
		err = cmd.Args(cmd, cmd.Flags().Args())
	}
	if err != nil || cmd == root {
		t.Errorf("%s: runner %s: %v", where, strings.Join(args, " "), err)
	}
}

// What the pipeline of Azure makes of findings has the keys that findings have.
func TestPipelineReadsFindings(t *testing.T) {
	text, err := os.ReadFile("../../examples/ci/azure-pipelines.yml")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	_, found := planfile.Parse("p.yaml", []byte("version: 2\n"), planfile.Options{})
	if err := found.Write(&out, spec.FormatJSON, ""); err != nil {
		t.Fatal(err)
	}
	var doc struct{ Findings []map[string]any }
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil || len(doc.Findings) == 0 {
		t.Fatalf("findings: %v\n%s", err, &out)
	}
	keys := regexp.MustCompile(`\\\(\.(\w+)\)`).FindAllSubmatch(text, -1)
	if len(keys) != 6 {
		t.Errorf("the pipeline reads %d keys of a finding, want 6", len(keys))
	}
	for _, key := range keys {
		if _, ok := doc.Findings[0][string(key[1])]; !ok {
			t.Errorf("the pipeline reads .%s, which no finding has: %v", key[1], doc.Findings[0])
		}
	}
}

// cmdStep is "step FILE NAME OUT": it writes the script of a pipeline's step to
// a file. Of several with one name it is the first.
func cmdStep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: step FILE NAME OUT")
	}
	scripts, err := ciScripts(filepath.Join(ts.Getenv("REPO"), args[0]))
	ts.Check(err)
	for _, s := range scripts {
		if s.name == args[1] {
			ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(s.text), 0o600))
			return
		}
	}
	ts.Fatalf("%s has no step %q", args[0], args[1])
}

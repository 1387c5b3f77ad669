package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/inputs"
	"iothub-runner/internal/output"
	"iothub-runner/internal/planfile"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/render"
	"iothub-runner/internal/terminal"
	"iothub-runner/spec"
)

// varFlags give the variables of a plan their values.
type varFlags struct {
	vars  []string
	files []string
}

func (f *varFlags) add(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.vars, "var", nil, "set a variable of the plan, `NAME=VALUE`; NAME alone takes it from RUNNER_VAR_NAME (may be repeated)")
	flags.StringArrayVar(&f.files, "var-file", nil, "read variables from the YAML mapping in `FILE` (may be repeated; later files win, --var wins over all)")
}

// values returns the values given on the command line.
func (f *varFlags) values(env environment) (map[string]string, error) {
	values := map[string]string{}
	for _, file := range f.files {
		text, err := readFile(env, file)
		if err != nil {
			return nil, exit.Usage(fmt.Sprintf("--var-file %q: %v", file, output.Reason(err)), "name a YAML file of variables, as in building: 44")
		}
		if err := readVars(values, text); err != nil {
			return nil, exit.Usage(fmt.Sprintf("--var-file %q: %v", file, err), "it holds a mapping of names to values, as in building: 44")
		}
	}
	for _, v := range f.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			value = env.getenv(varPrefix + name)
		}
		switch {
		case name == "" || !utf8.ValidString(name):
			return nil, exit.Usage(fmt.Sprintf("--var %q: want NAME=VALUE", clean(v)), "as in --var building=44")
		case !ok && value == "":
			return nil, exit.Usage(fmt.Sprintf("--var %s: the environment has no %s%s", name, varPrefix, name), "write --var NAME=VALUE, or set the variable")
		case !utf8.ValidString(value):
			return nil, exit.Usage(fmt.Sprintf("--var %s: the value is not UTF-8", name), "")
		}
		values[name] = value
	}
	return values, nil
}

// varPrefix begins the environment variables that give values to variables of
// a plan: an argument can be seen by every user of the machine.
const varPrefix = "RUNNER_VAR_"

// lookup finds the values of variables that are not given by a flag: in the
// environment, then among those that were recorded.
func lookup(env environment, recorded map[string]string) func(name string, sensitive bool) (string, bool) {
	return func(name string, sensitive bool) (string, bool) {
		if value := env.getenv(varPrefix + name); value != "" {
			return value, true
		}
		if sensitive {
			return "", false
		}
		return inputs.RecordedVar(recorded, name)
	}
}

// clean makes a text from outside fit for a message.
func clean(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// readVars adds the values of a file, each as it is written there.
func readVars(values map[string]string, text []byte) error {
	in := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	if err := in.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // an empty file gives no values
	} else if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := in.Decode(&second); !errors.Is(err, io.EOF) { // else its values would be left out unseen
		return errors.New("it goes on after the first YAML document")
	}
	m := doc.Content[0]
	if m.Kind != yaml.MappingNode {
		return errors.New("it is not a mapping")
	}
	first := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if first[key.Value] != 0 {
			return fmt.Errorf("line %d: %q stands in line %d already", key.Line, key.Value, first[key.Value])
		}
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			return fmt.Errorf("line %d: %q must be a text, a number or true or false", value.Line, key.Value)
		}
		first[key.Value] = key.Line
		values[key.Value] = value.Value
	}
	return nil
}

// planSource is the text of a plan and what it may use.
type planSource struct {
	file string
	text []byte
	opts planfile.Options

	strict bool // warnings are errors, and exclusions must leave somebody out
}

// openPlan reads a plan's file.
func openPlan(env environment, file string, vars map[string]string) (planSource, error) {
	text, err := readFile(env, file)
	if err != nil {
		return planSource{}, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("read plan %q: %w", file, output.Reason(err)), Hint: "name a plan file, or - for stdin"}
	}
	if preview.IsPinned(text) {
		return planSource{}, exit.Usage(fmt.Sprintf("%q is a pinned preview, not a plan", file), "only apply takes one, by the name of its file; validate and preview the plan itself")
	}
	return planSource{file: file, text: text, opts: planfile.Options{FS: output.Folder(filepath.Dir(file)), Vars: vars, Lookup: lookup(env, nil)}}, nil
}

// load checks the plan. Every finding is on stderr when it returns.
func (s planSource) load(talk *terminal.Talk) (*spec.Plan, error) {
	plan, findings := planfile.Parse(s.file, s.text, s.opts)
	if s.strict {
		findings = findings.Strict()
	}
	if len(findings) > 0 {
		talk.Findings(findings)
	}
	if plan == nil || findings.HasErrors() {
		n, _ := findings.Count()
		return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("the plan %s is invalid: %s", s.file, render.Count(n, "error")), Hint: "nothing was sent"}
	}
	for i := range plan.Jobs {
		target := &plan.Jobs[i].Target
		target.Expect.Excluded = target.Expect.Excluded || s.strict && len(target.Exclude) > 0
	}
	return plan, nil
}

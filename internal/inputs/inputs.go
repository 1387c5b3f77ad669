// Package inputs tells whether a plan would still do what an earlier run, or a
// preview, was made of: its jobs by hash, its variables and its files.
package inputs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"iter"
	"maps"
	"slices"
	"strings"

	"iothub-runner/spec"
)

// Of says what a run is of besides the plan's file: its jobs as they were
// filled in, and the variables that they were filled in with, but for secrets.
func Of(plan *spec.Plan) spec.Inputs {
	in := spec.Inputs{Jobs: map[string]string{}, Vars: PublicVars(plan), Files: FilesOf(plan)}
	for i := range plan.Jobs {
		in.Jobs[plan.Jobs[i].Name] = HashJob(&plan.Jobs[i])
	}
	return in
}

// FilesOf are the hashes of the files that the jobs of a plan take values from.
func FilesOf(plan *spec.Plan) map[string]string {
	files := map[string]string{}
	for i := range plan.Jobs {
		for _, f := range plan.Jobs[i].Files {
			files[f.Name] = f.SHA256[:min(len(f.SHA256), HashLength)]
		}
	}
	return files
}

const (
	// HashLength is how many hexadecimal digits of a hash are kept.
	HashLength = 32
	// hiddenVar begins what journals of earlier versions have in place of a text.
	hiddenVar       = "sha256:"
	hiddenVarLength = len(hiddenVar) + 16
)

// PublicVars are the variables of a plan that are no secrets.
func PublicVars(plan *spec.Plan) map[string]string {
	vars := map[string]string{}
	for name, value := range plan.Vars {
		if !slices.Contains(plan.Sensitive, name) {
			vars[name] = value
		}
	}
	return vars
}

// RecordedVar returns the value of a variable that a journal has; false if it
// was kept out of it.
func RecordedVar(vars map[string]string, name string) (string, bool) {
	value, ok := vars[name]
	hidden := len(value) == hiddenVarLength && strings.HasPrefix(value, hiddenVar)
	return value, ok && !hidden
}

// HashJob hashes all that a job does to whom: what the plan takes from files
// beside it and from variables is filled in. How fast it goes is left out, which
// the command line has a say in.
//
// A field that has its zero value counts as if there were no such field, so that
// a later version of runner, which has more of them, comes to the same hash.
func HashJob(job *spec.Job) string {
	j := *job
	h := jobHash{sha256.New()}
	j.Pos, j.Files, j.Target.Text, j.Concurrency, j.Rate = spec.Pos{}, nil, "", 0, 0
	if w := j.Window; w != nil {
		bare := *w
		bare.Location = nil // named by Timezone, and not made to be written
		j.Window = &bare
	}
	h.ids("devices", j.Target.Devices.All())
	h.ids("exclude", slices.Values(j.Target.Exclude))
	j.Target.Devices, j.Target.Exclude = spec.DeviceList{}, nil
	if m := j.Method; m != nil {
		bare := *m
		h.value("payload", m.Payload, m.Template)
		bare.Payload, bare.Template = nil, nil
		j.Method = &bare
	}
	if u := j.Twin; u != nil {
		bare := *u
		h.value("desired", u.Desired, u.DesiredTemplate)
		h.value("tags", u.Tags, u.TagsTemplate)
		bare.Desired, bare.DesiredTemplate, bare.Tags, bare.TagsTemplate = nil, nil, nil, nil
		j.Twin = &bare
	}
	if c := j.Confirm; c != nil {
		h.value("reported", c.Reported, c.Template)
		j.Confirm = &spec.Confirm{Within: c.Within, Changed: c.Changed}
	}
	h.rest(&j)
	return hex.EncodeToString(h.Sum(nil))[:HashLength]
}

// jobHash hashes the parts of a job.
type jobHash struct{ hash.Hash }

// text hashes a part. Its length keeps it apart from the next one.
func (h jobHash) text(key, text string) {
	_, _ = fmt.Fprintf(h, "%s %d:%s\n", key, len(text), text) // never returns an error
}

func (h jobHash) ids(key string, ids iter.Seq[spec.DeviceID]) {
	for id := range ids {
		h.text(key, id.Device)
		h.text("module", id.Module)
	}
}

func (h jobHash) value(key string, value json.RawMessage, t *spec.Template) {
	if t != nil {
		h.text(key+" template", t.String())
	} else if value != nil {
		h.text(key, string(value))
	}
}

// rest hashes what is left of a job, which is of few words.
func (h jobHash) rest(job *spec.Job) {
	text, err := json.Marshal(job)
	var fields any
	if err == nil {
		in := json.NewDecoder(bytes.NewReader(text))
		in.UseNumber()
		err = in.Decode(&fields)
	}
	if err == nil {
		text, err = json.Marshal(withoutZeros(fields))
	}
	if err != nil {
		panic("a job always has a JSON form: " + err.Error())
	}
	h.text("job", string(text))
}

// withoutZeros leaves out of an object what says nothing; nil if that is all.
func withoutZeros(v any) any {
	switch v := v.(type) {
	case map[string]any:
		maps.DeleteFunc(v, func(_ string, member any) bool { return withoutZeros(member) == nil })
		if len(v) == 0 {
			return nil
		}
	case []any:
		for _, element := range v {
			_ = withoutZeros(element) // an element that says nothing still counts
		}
		if len(v) == 0 {
			return nil
		}
	case string:
		if v == "" || v == "0001-01-01T00:00:00Z" {
			return nil
		}
	case json.Number:
		if v == "0" {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}

// ChangedError means that a plan would not do any more what the run did that it
// is to go on with: what it is filled in with has changed.
type ChangedError struct {
	Job    string   // the first job that differs
	More   int      // how many others do
	Why    []string // what has changed
	Runner string   // the version that began the run
}

// Error says what has changed for which job.
func (e *ChangedError) Error() string {
	why := strings.Join(e.Why, ", ")
	if why == "" {
		why = fmt.Sprintf("runner %s, which began that run, reads it otherwise", e.Runner)
	}
	text := fmt.Sprintf("the run to go on with was of other jobs: job %q: %s", e.Job, why)
	if e.More > 0 {
		text += fmt.Sprintf(" (and %d more that differ)", e.More)
	}
	return text
}

// NotPartError means that a job was not part of the run that is to go on.
type NotPartError struct {
	Job  string
	Were []string // jobs of the run
}

// Error names the jobs that were.
func (e *NotPartError) Error() string {
	return fmt.Sprintf("job %q is not part of the run to go on with, which was of --job %s alone", e.Job, strings.Join(e.Were, " --job "))
}

// Check holds a plan against what an earlier run was of. Nothing is
// compared if that run does not say.
func Check(was *spec.Inputs, plan *spec.Plan, version string) error {
	if len(was.Jobs) == 0 {
		return nil
	}
	is := Of(plan)
	var differ *ChangedError
	for i := range plan.Jobs {
		job := &plan.Jobs[i]
		before, known := was.Jobs[job.Name]
		switch {
		case !known:
			return &NotPartError{Job: job.Name, Were: slices.Sorted(maps.Keys(was.Jobs))}
		case before == is.Jobs[job.Name]:
		case differ != nil:
			differ.More++
		default:
			differ = &ChangedError{Job: job.Name, Runner: version, Why: slices.Concat(changedVars(was.Vars, is.Vars), ChangedFiles(was.Files, job))}
			if len(differ.Why) == 0 && len(plan.Sensitive) > 0 {
				differ.Why = []string{"a sensitive variable is not what it was: " + strings.Join(plan.Sensitive, " or ")}
			}
		}
	}
	if differ != nil {
		return differ
	}
	return nil
}

func changedVars(was, is map[string]string) (why []string) {
	for _, name := range slices.Sorted(maps.Keys(is)) {
		before, known := RecordedVar(was, name)
		switch now := is[name]; {
		case known && before == now:
		case known:
			why = append(why, fmt.Sprintf("var %s was %q, now %q", name, before, now))
		case was[name] != "":
			why = append(why, fmt.Sprintf("var %s may not be what it was", name))
		}
	}
	return why
}

// ChangedFiles says which files of a job are not what they were.
func ChangedFiles(was map[string]string, job *spec.Job) (why []string) {
	for _, f := range job.Files {
		if before, known := was[f.Name]; known && !strings.HasPrefix(f.SHA256, before) {
			why = append(why, fmt.Sprintf("%s %q has changed", f.Field, f.Name))
		}
	}
	return why
}

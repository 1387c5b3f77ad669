package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// A run goes on from its journal and from nothing else: a report tells how rows
// ended, not what was begun, and not who is missing. So a report, like a run's
// id, only names the run, and its journal is looked up.

// runIDShape is the form of the ids that newRunID makes.
var runIDShape = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$`)

// lastRun is the value of --resume that stands for the newest run of the plan on
// the hub that has not finished.
const lastRun = "last"

// keepJournal says how to be able to go on another time.
const keepJournal = "a run goes on from its journal alone: name that with --journal FILE, and keep it with the report (in CI, as an artefact of the pipeline)"

// resumed says which run --resume names.
type resumed struct {
	id   string // empty if it is for the journal to tell
	path string // of the journal
}

// findRun finds the journal of the run that --resume names: by the journal's
// path, the run's id, its report, or as the last one.
func (f *applyFlags) findRun(env environment, at place) (resumed, error) {
	if f.resume == lastRun {
		path, err := lastJournal(env, at)
		return resumed{path: path}, err
	}
	id, from := f.resume, "run "+f.resume
	if _, err := os.Stat(f.resume); err == nil || !runIDShape.MatchString(f.resume) {
		report, err := runOfReport(f.resume)
		if err != nil {
			return resumed{}, err
		}
		if report == "" {
			if f.journal != "" {
				return resumed{}, usageError("--resume goes on with the journal it names; leave --journal out", "")
			}
			return resumed{path: f.resume}, nil
		}
		id, from = report, fmt.Sprintf("run %s of report %q", report, f.resume)
	}
	path, err := f.journalOf(env, at, id)
	if err != nil {
		return resumed{}, err
	}
	if _, err := os.Stat(path); err != nil {
		return resumed{}, &failure{
			code: exitMismatch, err: fmt.Errorf("the journal of %s is not at %s: %w", from, path, reason(err)),
			hint: "nothing was sent; " + keepJournal,
		}
	}
	return resumed{id: id, path: path}, nil
}

// journalOf is where the journal of a run is, if it was not put elsewhere.
func (f *applyFlags) journalOf(env environment, at place, id string) (string, error) {
	if f.journal != "" {
		return f.journal, nil
	}
	if at.emulated {
		return "", &failure{
			code: exitMismatch, err: fmt.Errorf("run %s: the journal of a rehearsal is not kept", id), hint: "nothing was sent; " + keepJournal,
		}
	}
	dir, err := stateDir(env, at)
	return filepath.Join(dir, id+".ndjson"), err
}

// lastJournal returns the journal of the newest run of the plan on the hub that
// has not finished.
func lastJournal(env environment, at place) (string, error) {
	none := &failure{
		code: exitMismatch, err: fmt.Errorf("no run of plan %s on hub %s is unfinished here", at.plan, at.hub),
		hint: "nothing was sent; leave out --resume to start a run",
	}
	if at.emulated {
		return "", none
	}
	dir, err := stateDir(env, at)
	if err != nil {
		return "", err
	}
	paths, err := journal.Runs(dir)
	if err != nil {
		return "", &failure{code: exitInternal, err: err}
	}
	for _, path := range paths {
		done, err := journal.Finished(path)
		if err != nil {
			return "", &failure{code: exitInternal, err: fmt.Errorf("look at journal: %w", err)}
		}
		if !done {
			return path, nil
		}
	}
	return "", none
}

// runOfReport returns the id of the run that a report is of; empty for a file
// that is no report.
func runOfReport(path string) (id string, err error) {
	f, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return "", nil // opening the journal says why
	}
	defer f.Close() //nolint:errcheck // only read
	in := json.NewDecoder(io.LimitReader(f, 1<<20))
	if !nextIs(in, json.Delim('{')) || !nextIs(in, "schema") || !nextIs(in, spec.ReportSchema) {
		return "", nil
	}
	var run spec.Run
	if !nextIs(in, "run") || in.Decode(&run) != nil || run.ID == "" {
		return "", &failure{code: exitMismatch, err: fmt.Errorf("--resume %q: the report is cut off before it says which run it is of", path), hint: "nothing was sent; " + keepJournal}
	}
	if !runIDShape.MatchString(run.ID) {
		return "", &failure{code: exitMismatch, err: fmt.Errorf("--resume %q: %q is no id of a run", path, run.ID), hint: "nothing was sent"}
	}
	return run.ID, nil
}

// recorded returns the variables that the run was begun with which is to go on,
// as far as its journal has them. What is wrong with the journal is said when it
// is opened.
func (f *applyFlags) recorded(env environment, text []byte) map[string]string {
	if f.resume == "" {
		return nil
	}
	at := place{plan: spec.NameOf(text), emulated: f.emulator != ""}
	if cs, err := f.connectionString(env); err == nil && !at.emulated {
		if parsed, parseErr := hubclient.ParseConnectionString(cs); parseErr == nil {
			at.hub = parsed.HostName
		}
	}
	if at.plan == "" || at.hub == "" && !at.emulated {
		return nil
	}
	run, err := f.findRun(env, at)
	if err != nil {
		return nil
	}
	in, err := os.Open(run.path)
	if err != nil {
		return nil
	}
	defer in.Close() //nolint:errcheck // only read
	header, err := journal.ReadHeader(in)
	if err != nil {
		return nil
	}
	return header.Vars
}

func nextIs(in *json.Decoder, want json.Token) bool {
	token, err := in.Token()
	return err == nil && token == want
}

// parseOnly reads the outcomes of --only. The class "failed" is that of tolerate.
func parseOnly(names []string) ([]spec.Outcome, error) {
	var all []spec.Outcome
	for _, name := range names {
		if name == string(spec.OutcomeFailed) {
			all = append(all, spec.FailedOutcomes()...)
			continue
		}
		if !slices.Contains(spec.Outcomes(), spec.Outcome(name)) {
			return nil, usageError(fmt.Sprintf("--only %q is not an outcome", name), "the outcomes are "+strings.Join(outcomeNames(), ", ")+
				"; failed takes in rejected, unanswered and unconfirmed, as in tolerate")
		}
		all = append(all, spec.Outcome(name))
	}
	return all, nil
}

func outcomeNames() []string {
	var names []string
	for _, o := range spec.Outcomes() {
		names = append(names, string(o))
	}
	return names
}

// otherRunError means that a journal is not of the run that was named.
type otherRunError struct{ path, have, want string }

// Error names both runs.
func (e *otherRunError) Error() string {
	return fmt.Sprintf("the journal %s is of run %s, not of run %s", e.path, e.have, e.want)
}

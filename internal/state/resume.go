package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/output"
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
func (f Request) findRun() (resumed, error) {
	if f.Resume == lastRun {
		path, err := f.lastJournal()
		return resumed{path: path}, err
	}
	id, from := f.Resume, "run "+f.Resume
	if _, err := os.Stat(f.Resume); err == nil || !runIDShape.MatchString(f.Resume) {
		report, err := runOfReport(f.Resume)
		if err != nil {
			return resumed{}, err
		}
		if report == "" {
			if f.Journal != "" {
				return resumed{}, exit.Usage("--resume goes on with the journal it names; leave --journal out", "")
			}
			return resumed{path: f.Resume}, nil
		}
		id, from = report, fmt.Sprintf("run %s of report %q", report, f.Resume)
	}
	path, err := f.journalOf(id)
	if err != nil {
		return resumed{}, err
	}
	if path, err = journal.Lookup(path); err != nil {
		return resumed{}, &exit.Error{
			Code: exit.Mismatch, Err: fmt.Errorf("the journal of %s is not at %s: %w", from, path, output.Reason(err)),
			Hint: "nothing was sent; " + keepJournal,
		}
	}
	return resumed{id: id, path: path}, nil
}

// journalOf is where the journal of a run is, if it was not put elsewhere.
func (f Request) journalOf(id string) (string, error) {
	if f.Journal != "" {
		return f.Journal, nil
	}
	if f.Emulated {
		return "", &exit.Error{
			Code: exit.Mismatch, Err: fmt.Errorf("run %s: the journal of a rehearsal is not kept", id), Hint: "nothing was sent; " + keepJournal,
		}
	}
	dir, err := f.dir()
	return filepath.Join(dir, id+".ndjson"), err
}

// noneError means that no run of a plan is unfinished.
type noneError struct{ text string }

func (e *noneError) Error() string { return e.text }

// lastJournal returns the journal of the newest run of the plan on the hub that
// has not finished.
func (at Place) lastJournal() (string, error) {
	none := &exit.Error{
		Code: exit.Mismatch, Err: &noneError{fmt.Sprintf("no run of plan %s on hub %s is unfinished here", at.Plan, at.Hub)},
		Hint: "nothing was sent; leave out --resume to start a run, or add --or-start",
	}
	if at.Emulated {
		return "", none
	}
	dir, err := at.dir()
	if err != nil {
		return "", err
	}
	paths, err := journal.Runs(dir)
	if err != nil {
		return "", &exit.Error{Code: exit.Internal, Err: err}
	}
	for _, path := range paths {
		done, err := journal.Finished(path)
		if err != nil {
			return "", &exit.Error{Code: exit.Internal, Err: fmt.Errorf("look at journal: %w", err)}
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
	report, err := spec.NewReportReader(io.LimitReader(f, 1<<20))
	if errors.Is(err, spec.ErrNotReport) {
		return "", nil
	}
	if err != nil || report.Run.ID == "" {
		return "", &exit.Error{Code: exit.Mismatch, Err: fmt.Errorf("--resume %q: the report is cut off before it says which run it is of", path), Hint: "nothing was sent; " + keepJournal}
	}
	run := report.Run
	if !runIDShape.MatchString(run.ID) {
		return "", &exit.Error{Code: exit.Mismatch, Err: fmt.Errorf("--resume %q: %q is no id of a run", path, run.ID), Hint: "nothing was sent"}
	}
	return run.ID, nil
}

// RecordedVars returns the variables that the run was begun with which is to go
// on, as far as its journal has them. What is wrong with the journal is said when
// it is opened.
func (f Request) RecordedVars() map[string]string {
	run, err := f.findRun()
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

// ParseOnly reads the outcomes of --only. The class "failed" is that of tolerate.
func ParseOnly(names []string) ([]spec.Outcome, error) {
	var all []spec.Outcome
	for _, name := range names {
		if name == string(spec.OutcomeFailed) {
			all = append(all, spec.FailedOutcomes()...)
			continue
		}
		if !slices.Contains(spec.Outcomes(), spec.Outcome(name)) {
			return nil, exit.Usage(fmt.Sprintf("--only %q is not an outcome", name), "the outcomes are "+strings.Join(outcomeNames(), ", ")+
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

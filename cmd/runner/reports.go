package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type writer = io.Writer

// reportFiles are the places that a report goes to. Files are opened before
// anything is sent, so that a run does not find out at its end that its report
// has nowhere to go, and appear whole at the end.
type reportFiles struct {
	last    func()    // is called before stdout, which may never be read, is written to
	stdout  io.Writer // nil if the report does not go there
	brief   bool      // stdout gets a summary instead
	mode    os.FileMode
	names   []string // of the files, for messages
	pending []*pendingFile
	streams []*os.File // devices and pipes: what cannot be replaced is written to
}

// openReports opens the places that --report names. The plan is not among
// them: a report in its place would be the end of it.
func openReports(env environment, names []string, plan string, mode os.FileMode) (*reportFiles, error) {
	r := &reportFiles{mode: mode}
	if len(names) == 0 {
		r.stdout, r.brief = env.stdout, isTerminal(env.stdout)
	}
	for _, name := range names {
		if err := r.open(env, name, plan); err != nil {
			r.discard()
			return nil, &failure{code: exitInvalid, err: fmt.Errorf("--report %q: %w", name, err), hint: "nothing was sent; name a file that can be written, or - for stdout"}
		}
	}
	return r, nil
}

func (r *reportFiles) open(env environment, name, plan string) error {
	format, file, found := strings.Cut(name, "=")
	switch {
	case found && format == "json":
		name = file
	case found && slices.Contains([]string{"ndjson", "junit", "markdown", "html", "csv"}, format):
		return fmt.Errorf("the format %s is not supported yet; json is", format)
	}
	if name == "-" || name == "/dev/stdout" {
		r.stdout = env.stdout
		return nil
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.create(name)
	case err != nil:
		return reason(err)
	case !info.IsDir() && !info.Mode().IsRegular():
		return r.stream(name)
	}
	if was, statErr := os.Stat(plan); statErr == nil && os.SameFile(info, was) {
		return errors.New("it is the plan")
	}
	if name, err = replaced(name); err != nil {
		return reason(err)
	}
	return r.create(name)
}

// create opens a file that replaces the one of this name at the end.
func (r *reportFiles) create(name string) error {
	if name == "" {
		return errors.New("it has no name")
	}
	if info, err := os.Stat(filepath.Dir(name)); err != nil || !info.IsDir() {
		return fmt.Errorf("there is no directory %q", filepath.Dir(name))
	}
	f, err := newPendingFile(name, r.mode)
	if err != nil {
		return reason(err)
	}
	r.pending = append(r.pending, f)
	r.names = append(r.names, name)
	return nil
}

func (r *reportFiles) stream(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0) //nolint:gosec // the user names it
	if err != nil {
		return reason(err)
	}
	r.streams = append(r.streams, f)
	return nil
}

// replaced returns the file that one written under this name takes the place
// of. A device such as /dev/null is no such file: it would be gone.
func replaced(name string) (string, error) {
	was, err := os.Stat(name)
	if err != nil {
		return name, nil //nolint:nilerr // there is none yet, or creating it says why not
	}
	switch {
	case was.IsDir():
		return "", errors.New("it is a directory")
	case !was.Mode().IsRegular():
		return "", errors.New("it is no regular file")
	}
	return filepath.EvalSymlinks(name) // a link stays, and the file it leads to is replaced
}

// reason returns what the system said, without the name of the temporary file
// that it said it about.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// seeWhy says where the causes of what did not go well stand; nothing to who has
// them before their eyes.
func (r *reportFiles) seeWhy() string {
	switch {
	case r.brief:
		return ""
	case len(r.names) == 0:
		return "summary.causes of the report says why"
	}
	return "see why: jq -c '.summary.causes[]' " + shellWord(r.names[0])
}

// write calls out for each place, or brief for a terminal that nobody asked to
// show the whole report, and puts the files where they belong. One
// that does not work keeps none of the others from being written.
func (r *reportFiles) write(out, brief func(io.Writer) error) error {
	var errs []error
	for i, f := range r.pending {
		err := out(f)
		if err == nil {
			err = f.replace()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("report %q: %w", r.names[i], err))
		}
	}
	for _, f := range r.streams {
		if err := errors.Join(out(f), f.Close()); err != nil {
			errs = append(errs, fmt.Errorf("report %q: %w", f.Name(), reason(err)))
		}
	}
	r.streams = nil
	if r.stdout != nil {
		if r.last != nil {
			r.last()
		}
		if r.brief {
			out = brief
		}
		if err := out(r.stdout); err != nil {
			errs = append(errs, fmt.Errorf("report on stdout: %w", reason(err)))
		}
	}
	return errors.Join(errs...)
}

// discard removes what was not written. After write it does nothing.
func (r *reportFiles) discard() {
	for _, f := range r.pending {
		_ = f.discard() // a temporary file that stays does no harm
	}
	for _, f := range r.streams {
		_ = f.Close() // nothing was written to it
	}
}

// Package output puts what a command writes where it belongs, whole or not at all.
package output

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/render"
	"iothub-runner/internal/terminal"
	"iothub-runner/spec"
)

// Files are the places that a report goes to. Files are opened before
// anything is sent, so that a run does not find out at its end that its report
// has nowhere to go, and appear whole at the end.
type Files struct {
	Last    func()    // is called before stdout, which may never be read, is written to
	Stdout  io.Writer // nil if the report does not go there
	shown   string    // the format that goes there
	brief   bool      // stdout gets a summary instead
	mode    os.FileMode
	Names   []string // of the files, for messages
	formats []string // of each
	pending []*File
	streams []stream
}

// stream is a device or a pipe: what cannot be replaced is written to.
type stream struct {
	file   *os.File
	format string
}

// Open opens the places that --report names. Stdout is nil if it is for something else. The plan is not among
// them: a report in its place would be the end of it.
func Open(stdout io.Writer, names []string, plan string, mode os.FileMode) (*Files, error) {
	r := &Files{mode: mode}
	if len(names) == 0 && stdout != nil {
		r.Stdout, r.shown, r.brief = stdout, "json", terminal.IsTerminal(stdout)
	}
	for _, name := range names {
		if err := r.open(stdout, name, plan); err != nil {
			r.Discard()
			return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("--report %q: %w", name, err), Hint: "nothing was sent; name a file that can be written, or - for stdout"}
		}
	}
	return r, nil
}

func (r *Files) open(stdout io.Writer, name, plan string) error {
	format, file, found := strings.Cut(name, "=")
	if found && slices.Contains(render.ReportFormats(), format) {
		name = file
	} else {
		format = render.FormatOf(name)
	}
	if name == "-" || name == "/dev/stdout" {
		if r.Stdout != nil {
			return errors.New("one report can go to stdout")
		}
		if stdout == nil {
			return errors.New("stdout has the events of --output")
		}
		r.Stdout, r.shown = stdout, format
		return nil
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r.create(name, format)
	case err != nil:
		return Reason(err)
	case !info.IsDir() && !info.Mode().IsRegular():
		return r.stream(name, format)
	}
	if was, statErr := os.Stat(plan); statErr == nil && os.SameFile(info, was) {
		return errors.New("it is the plan")
	}
	if name, err = Replaced(name); err != nil {
		return Reason(err)
	}
	return r.create(name, format)
}

// create opens a file that replaces the one of this name at the end.
func (r *Files) create(name, format string) error {
	if name == "" {
		return errors.New("it has no name")
	}
	if info, err := os.Stat(filepath.Dir(name)); err != nil || !info.IsDir() {
		return fmt.Errorf("there is no directory %q", filepath.Dir(name))
	}
	f, err := Create(name, r.mode)
	if err != nil {
		return Reason(err)
	}
	r.pending = append(r.pending, f)
	r.Names, r.formats = append(r.Names, name), append(r.formats, format)
	return nil
}

func (r *Files) stream(name, format string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0) //nolint:gosec // the user names it
	if err != nil {
		return Reason(err)
	}
	r.streams = append(r.streams, stream{file: f, format: format})
	return nil
}

// Replaced returns the file that one written under this name takes the place
// of. A device such as /dev/null is no such file: it would be gone.
func Replaced(name string) (string, error) {
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

// Reason returns what the system said, without the name of the temporary file
// that it said it about.
func Reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// Brief tells whether stdout gets a summary, which says all causes.
func (r *Files) Brief() bool { return r.brief }

// SeeWhy says where the causes of what did not go well stand; nothing to who has
// them before their eyes.
func (r *Files) SeeWhy() string {
	switch {
	case r.brief:
		return ""
	case len(r.Names) == 0:
		return "summary.causes of the report says why"
	}
	if i := slices.Index(r.formats, "json"); i >= 0 {
		return "see why: runner report " + render.ShellWord(r.Names[i])
	}
	return "see why: " + render.ShellWord(r.Names[0])
}

// Write writes the report to each place in its format, or calls brief for a terminal
// that nobody asked to show the whole report, and puts the files where they belong. One
// that does not work keeps none of the others from being written.
func (r *Files) Write(d spec.Document, brief func(io.Writer) error) error {
	var errs []error
	for i, f := range r.pending {
		err := render.ReportFormat(r.formats[i])(f, d)
		if err == nil {
			err = f.Replace()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("report %q: %w", r.Names[i], err))
		}
	}
	for _, s := range r.streams {
		if err := errors.Join(render.ReportFormat(s.format)(s.file, d), s.file.Close()); err != nil {
			errs = append(errs, fmt.Errorf("report %q: %w", s.file.Name(), Reason(err)))
		}
	}
	r.streams = nil
	if r.Stdout != nil {
		if r.Last != nil {
			r.Last()
		}
		out := func(w io.Writer) error { return render.ReportFormat(r.shown)(w, d) }
		if r.brief {
			out = brief
		}
		if err := out(r.Stdout); err != nil {
			errs = append(errs, fmt.Errorf("report on stdout: %w", Reason(err)))
		}
	}
	return errors.Join(errs...)
}

// Discard removes what was not written. After write it does nothing.
func (r *Files) Discard() {
	for _, f := range r.pending {
		_ = f.Discard() // a temporary file that stays does no harm
	}
	for _, s := range r.streams {
		_ = s.file.Close() // nothing was written to it
	}
}

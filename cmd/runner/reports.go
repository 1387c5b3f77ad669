package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/renameio/v2"
)

type writer = io.Writer

// reportFiles are the places that a report goes to. Files are opened before
// anything is sent, so that a run does not find out at its end that its report
// has nowhere to go, and appear whole at the end.
type reportFiles struct {
	stdout  io.Writer // nil if the report does not go there
	pending []*renameio.PendingFile
}

func openReports(env environment, names []string) (*reportFiles, error) {
	if len(names) == 0 {
		return &reportFiles{stdout: env.stdout}, nil
	}
	r := &reportFiles{}
	for _, name := range names {
		name, _ = strings.CutPrefix(name, "json=")
		if name == "-" {
			r.stdout = env.stdout
			continue
		}
		f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o644))
		if err != nil {
			r.discard()
			return nil, &failure{code: exitInvalid, err: fmt.Errorf("open report: %w", err)}
		}
		r.pending = append(r.pending, f)
	}
	return r, nil
}

// write calls out for each place and puts the files where they belong. One
// that does not work keeps none of the others from being written.
func (r *reportFiles) write(out func(io.Writer) error) error {
	var errs []error
	for _, f := range r.pending {
		err := out(f)
		if err == nil {
			err = f.CloseAtomicallyReplace()
		}
		errs = append(errs, err)
	}
	if r.stdout != nil {
		errs = append(errs, out(r.stdout))
	}
	return errors.Join(errs...)
}

// discard removes what was not written. After write it does nothing.
func (r *reportFiles) discard() {
	for _, f := range r.pending {
		_ = f.Cleanup() // a temporary file that stays does no harm
	}
}

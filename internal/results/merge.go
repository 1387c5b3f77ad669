package results

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/fold"
	"iothub-runner/spec"
)

// errDone ends the rows of a part early.
var errDone = errors.New("no more rows are wanted")

// merged is the document of several shards of a run.
type merged struct {
	parts []spec.Document
	head  spec.Report
}

// merge puts the reports of all shards of a run together. A set that is not whole is
// refused: who is missing would look as if nobody had to be called.
func merge(parts []spec.Document, paths []string) (*merged, error) {
	of, first := 0, parts[0].Head()
	seen := map[int]string{}
	for i, p := range parts {
		run := &p.Head().Run
		switch {
		case run.Shard == nil:
			return nil, fmt.Errorf("%q is no report of a shard, so it cannot be put together with others", paths[i])
		case run.Plan.SHA256 != first.Run.Plan.SHA256 || run.Plan.Name != first.Run.Plan.Name:
			return nil, fmt.Errorf("%q is of another plan than %q", paths[i], paths[0])
		case run.Hub != first.Run.Hub:
			return nil, fmt.Errorf("%q is of hub %s, and %q of %s", paths[i], run.Hub, paths[0], first.Run.Hub)
		case of != 0 && run.Shard.Of != of:
			return nil, fmt.Errorf("%q is one of %d shards, and %q one of %d", paths[i], run.Shard.Of, paths[0], of)
		case seen[run.Shard.Index] != "":
			return nil, fmt.Errorf("%q and %q are of the same shard %s", seen[run.Shard.Index], paths[i], run.Shard)
		case len(p.Head().Jobs) != len(first.Jobs):
			return nil, fmt.Errorf("%q has %d jobs, and %q has %d", paths[i], len(p.Head().Jobs), paths[0], len(first.Jobs))
		}
		of, seen[run.Shard.Index] = run.Shard.Of, paths[i]
	}
	var missing []string
	for i := 1; i <= of; i++ {
		if seen[i] == "" {
			missing = append(missing, spec.Shard{Index: i, Of: of}.String())
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("the set is not whole: shard %s is missing", strings.Join(missing, ", "))
	}
	m := &merged{parts: parts}
	return m, m.add()
}

// Head returns the report less its rows.
func (m *merged) Head() *spec.Report { return &m.head }

// add adds the parts up.
func (m *merged) add() error {
	var causes fold.Causes
	run := m.parts[0].Head().Run
	run.Shard = nil
	m.head = spec.Report{Schema: spec.ReportSchema, Run: run, Summary: spec.Summary{Outcomes: map[spec.Outcome]int{}}}
	var ids []string
	for _, p := range m.parts {
		h := p.Head()
		ids = append(ids, h.Run.ID)
		m.head.Run.Status, m.head.Run.ExitCode = spec.Worst(m.head.Run.Status, h.Run.Status), max(m.head.Run.ExitCode, h.Run.ExitCode)
		if h.Run.StartedAt.Before(m.head.Run.StartedAt.Time) {
			m.head.Run.StartedAt = h.Run.StartedAt
		}
		if h.Run.EndedAt.After(m.head.Run.EndedAt.Time) {
			m.head.Run.EndedAt = h.Run.EndedAt
		}
		m.head.Run.Reason = cmp.Or(m.head.Run.Reason, h.Run.Reason)
		m.head.Summary.ThrottledMs += h.Summary.ThrottledMs
		m.head.Summary.PacedMs += h.Summary.PacedMs
	}
	m.head.Run.ID = strings.Join(ids, " ")
	for i := range m.parts[0].Head().Jobs {
		if err := m.addJob(i, &causes); err != nil {
			return err
		}
	}
	m.head.Summary.Causes, m.head.Summary.MoreCauses = causes.Sorted()
	return nil
}

// addJob adds up the parts of a job. Latencies cannot be added, so they come from the
// rows.
func (m *merged) addJob(job int, causes *fold.Causes) error {
	rep := m.parts[0].Head().Jobs[job]
	sum := fold.NewJob()
	rep.RatePerSecond, rep.Waves = 0, []spec.WaveReport{}
	for _, p := range m.parts {
		part := &p.Head().Jobs[job]
		if part.Name != rep.Name {
			return fmt.Errorf("the reports have other jobs: %s, and %s", rep.Name, part.Name)
		}
		rep.Status = worstOfJobs(rep.Status, part.Status)
		rep.Reason, rep.Listing = cmp.Or(rep.Reason, part.Reason), cmp.Or(rep.Listing, part.Listing)
		rep.RatePerSecond += part.RatePerSecond
		rep.StartedAt, rep.EndedAt = earliest(rep.StartedAt, part.StartedAt), latest(rep.EndedAt, part.EndedAt)
		err := p.Rows(job, func(text []byte) error {
			row := causes.Row(rep.Name, text)
			sum.Add(&row)
			return nil
		})
		if err != nil {
			return err
		}
	}
	sum.Report(&rep, &m.head.Summary)
	if rep.TimeToApplyMs != nil {
		applied := fold.Latencies(sum.Applied)
		rep.TimeToApplyMs = &applied
	}
	m.head.Jobs = append(m.head.Jobs, rep)
	return nil
}

// worstOfJobs sums up two parts of one job. Only if none began did the job not begin.
func worstOfJobs(a, b spec.Status) spec.Status {
	if a == b {
		return a
	}
	return spec.Worst(a, b)
}

func earliest(a, b *spec.Time) *spec.Time {
	if a == nil || b != nil && b.Before(a.Time) {
		return b
	}
	return a
}

func latest(a, b *spec.Time) *spec.Time {
	if a == nil || b != nil && b.After(a.Time) {
		return b
	}
	return a
}

// Rows yields those of a job in their order. Each part has them in it already.
func (m *merged) Rows(job int, yield func(row []byte) error) error {
	type cursor struct {
		row, key []byte
		next     func() ([]byte, error, bool)
		stop     func()
	}
	var parts []*cursor
	defer func() {
		for _, c := range parts {
			c.stop()
		}
	}()
	advance := func(c *cursor) (more bool, err error) {
		row, err, ok := c.next()
		if !ok || err != nil {
			return false, err
		}
		c.row = row
		found := gjson.GetManyBytes(row, "deviceId", "moduleId", "hub")
		c.key = append(append(append(append(append(c.key[:0], found[0].Str...), 0), found[1].Str...), 0), found[2].Str...)
		return true, nil
	}
	for _, p := range m.parts {
		next, stop := iter.Pull2(rowsOf(p, job))
		c := &cursor{next: next, stop: stop}
		more, err := advance(c)
		if err != nil {
			stop()
			return err
		}
		if parts = append(parts, c); !more {
			stop()
			parts = parts[:len(parts)-1]
		}
	}
	for len(parts) > 0 {
		c := slices.MinFunc(parts, func(a, b *cursor) int { return bytes.Compare(a.key, b.key) })
		if err := yield(c.row); err != nil {
			return err
		}
		more, err := advance(c)
		if err != nil {
			return err
		}
		if !more {
			c.stop()
			parts = slices.DeleteFunc(parts, func(other *cursor) bool { return other == c })
		}
	}
	return nil
}

// rowsOf are the rows of a part of a job. An error comes last.
func rowsOf(d spec.Document, job int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		err := d.Rows(job, func(row []byte) error {
			if !yield(row, nil) {
				return errDone
			}
			return nil
		})
		if err != nil && !errors.Is(err, errDone) {
			yield(nil, err)
		}
	}
}

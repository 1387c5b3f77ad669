package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"iothub-runner/internal/exit"
	"iothub-runner/internal/output"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/terminal"
	"iothub-runner/spec"
)

// planOf reads the plan that apply is given, or the pinned preview of one.
func (f *applyFlags) planOf(env environment, talk *terminal.Talk, file string) (*spec.Plan, *preview.Pinned, error) {
	pinned, err := openPinned(file)
	if err != nil {
		return nil, nil, err
	}
	if pinned == nil {
		plan, planErr := f.loadPlan(env, talk, file)
		return plan, nil, planErr
	}
	if len(f.jobs)+len(f.vars)+len(f.files) > 0 {
		return nil, nil, exit.Usage("--job, --var and --var-file are part of the pinned preview already", "give them to runner preview --out, and apply what that saves")
	}
	plan, err := pinnedPlan(env, talk, pinned)
	if err != nil {
		return nil, nil, err
	}
	talk.Line(fmt.Sprintf("pinned preview of %s, made at %s", plan.File, pinned.Header.CreatedAt.Format("2006-01-02T15:04:05Z07:00")),
		slog.String("event", "pinned"), slog.String("plan", plan.File))
	return plan, pinned, nil
}

// loadPlan reads and checks a plan. Every finding is on stderr when it returns.
func (f *applyFlags) loadPlan(env environment, talk *terminal.Talk, file string) (*spec.Plan, error) {
	src, err := f.openPlan(env, file)
	if err != nil {
		return nil, err
	}
	src.opts.Lookup = lookup(env, f.recorded(env, src.text))
	return src.load(talk)
}

// openPinned reads a pinned preview; nil if the file is not meant to be one.
func openPinned(file string) (*preview.Pinned, error) {
	if info, err := os.Stat(file); file == "-" || err != nil || !info.Mode().IsRegular() {
		return nil, nil //nolint:nilnil // reading it as a plan says what is wrong; a pipe can be read once
	}
	in, err := os.Open(file) //nolint:gosec // the user names the file
	if err != nil {
		return nil, nil //nolint:nilnil // as above
	}
	defer in.Close() //nolint:errcheck // only read
	head := bufio.NewReader(in)
	if start, _ := head.Peek(64); !preview.IsPinned(start) { // a shorter file is none
		return nil, nil //nolint:nilnil // a plan
	}
	pinned, err := preview.ReadPinned(head)
	if err != nil {
		return nil, &exit.Error{
			Code: exit.Mismatch, Err: fmt.Errorf("pinned preview %q: %w", file, output.Reason(err)),
			Hint: "nothing was sent; preview the plan again with --out, and apply that",
		}
	}
	return pinned, nil
}

// pinnedPlan reads the plan of a pinned preview, which must not have changed.
func pinnedPlan(env environment, talk *terminal.Talk, p *preview.Pinned) (*spec.Plan, error) {
	h := &p.Header
	src, err := openPlan(env, h.Plan.File, h.Vars)
	if err != nil {
		return nil, &exit.Error{
			Code: exit.Mismatch, Err: fmt.Errorf("the pinned preview's plan cannot be read: %w", err),
			Hint: "nothing was sent; apply it in the folder in which it was made, or preview the plan again with --out",
		}
	}
	if sum := sha256.Sum256(src.text); hex.EncodeToString(sum[:]) != h.Plan.SHA256 {
		return nil, &preview.PinMismatchError{What: fmt.Sprintf("the plan file %q has changed", h.Plan.File)}
	}
	plan, err := src.load(talk)
	if err != nil {
		return nil, err
	}
	plan.Jobs = slices.DeleteFunc(plan.Jobs, func(j spec.Job) bool {
		return !slices.ContainsFunc(h.Jobs, func(p preview.PinnedJob) bool { return p.Name == j.Name })
	})
	return plan, nil
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// An Assumption is a statement about the real hub that the emulator or the
// client relies on, and that nobody here could try.
type Assumption struct {
	ID     string
	Says   string
	Source string // where it is from, and how sure that is
	Expect string // what observe sees when the statement is true

	// Switch names the emulator's behaviour that decides the matter, if there
	// is one, and Values what observe sees under each of its values.
	Switch string
	Values map[string]string

	Tier     string // that an emulator needs for the check to make sense
	Disturbs string // what the check does to others who use the hub; it then runs only if asked to
	Faults   string // that make an emulator refuse what a real hub refuses a crowd only

	observe func(p *probe) string
}

// Finding is what the check of an assumption came to.
type Finding struct {
	Assumption

	Seen string
	Err  error // the check could not be made
}

// Holds says whether the hub does as assumed.
func (f Finding) Holds() bool { return f.Err == nil && f.Seen == f.Expect }

// String is a line for people.
func (f Finding) String() string {
	switch {
	case f.Err != nil:
		return fmt.Sprintf("%s not checked: %v", f.ID, f.Err)
	case f.Holds():
		return fmt.Sprintf("%s holds: %s", f.ID, f.Says)
	}
	return fmt.Sprintf("%s DOES NOT HOLD: %s\n     seen: %s, expected: %s%s", f.ID, f.Says, f.Seen, f.Expect, f.advice())
}

// advice names the switch that makes the emulator do as the hub does.
func (f Finding) advice() string {
	for value, seen := range f.Values {
		if seen == f.Seen {
			return fmt.Sprintf("; the emulator does so with --behaviour %s=%s", f.Switch, value)
		}
	}
	return ""
}

// check tries one assumption and cleans up after itself.
func check(ctx context.Context, s setup, a Assumption) Finding {
	p := newProbe(ctx, s)
	defer p.cleanUp()
	seen := a.observe(p)
	return Finding{Assumption: a, Seen: seen, Err: p.err}
}

// assumptions is all of them, in order.
func assumptions() []Assumption {
	return slices.Concat(registryAssumptions(), twinAssumptions(), queryAssumptions(), methodAssumptions(), jobAssumptions(), deviceAssumptions(),
		certificateAssumptions(), sessionAssumptions(), throttleAssumptions())
}

// open says whether only a real hub can decide the matter: nothing that was
// published or recorded does.
func (a Assumption) open() bool {
	return a.Switch != "" || strings.Contains(a.Source, "unconfirmed") || strings.Contains(a.Source, "inferred")
}

// table is docs/assumptions.md.
func table(list []Assumption) string {
	var b strings.Builder
	b.WriteString(`# What is assumed of the real hub

Nobody could try these statements on a live hub while the emulator and the client were written. Each has a source and a small
check. If you have a hub for tests, please run them, and attach the file to an issue:

` + "```" + `
go run ./internal/hubtest/assumptions -connection-string-file hub.txt -out assumptions-report.md   # some minutes
go run ./internal/hubtest/assumptions -connection-string-file hub.txt -run A052                    # one; -list shows them
` + "```" + `

The first line of the file is the connection string of a policy that may do everything, such as ` + "`iothubowner`" + `; it may as well stand in
` + "`" + connectionVar + "`" + `. A065 also needs one with ServiceConnect alone, in ` + "`" + serviceOnlyVar + "`" + `. Neither keys nor
the name of the hub get into the report.

The checks touch only devices and jobs that they create, under ids that begin with ` + "`assume-`" + ` and a random number, and delete them
again (a hub keeps its jobs for 30 days). Those that would disturb others who use the hub run with ` + "`-disturb`" + ` only.

What has a switch is what the emulator does by default; the check tells which value it should have. The tables are generated
by ` + "`go run ./internal/hubtest/assumptions -table`" + `.

## What only a real hub can decide

`)
	writeRows(&b, list, Assumption.open)
	b.WriteString("\n## What documents, samples and recorded clients say\n\n")
	writeRows(&b, list, func(a Assumption) bool { return !a.open() })
	return b.String()
}

func writeRows(b *strings.Builder, list []Assumption, wanted func(Assumption) bool) {
	b.WriteString("| Id | Statement | Source | Switch |\n|---|---|---|---|\n")
	for _, a := range list {
		if !wanted(a) {
			continue
		}
		behaviour := ""
		if a.Switch != "" {
			behaviour = "`" + a.Switch + "`"
		}
		says := a.Says
		if a.Disturbs != "" {
			says += " (" + a.Disturbs + ")"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", a.ID, says, a.Source, behaviour)
	}
}

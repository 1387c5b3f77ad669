package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Format is a way to write findings.
type Format string

// The formats: text for people, JSON for programs, GitHub for the annotations
// of a workflow, SARIF 2.1.0 for code scanning.
const (
	FormatText   Format = "text"
	FormatJSON   Format = "json"
	FormatGitHub Format = "github"
	FormatSARIF  Format = "sarif"
)

// Formats lists the formats.
func Formats() []Format { return []Format{FormatText, FormatJSON, FormatGitHub, FormatSARIF} }

var errFormat = errors.New("unknown format of findings")

// Write writes the findings, of one plan or of several, in a format. The
// version is that of the program, for formats that name it.
func (ds Diagnostics) Write(w io.Writer, format Format, version string) error {
	switch format {
	case FormatText:
		_, err := io.WriteString(w, ds.String())
		return err
	case FormatJSON:
		return ds.writeJSON(w)
	case FormatGitHub:
		return ds.writeGitHub(w)
	case FormatSARIF:
		return ds.writeSARIF(w, version)
	}
	return fmt.Errorf("format %q: %w", format, errFormat)
}

type jsonFindings struct {
	Errors   int           `json:"errors"`
	Warnings int           `json:"warnings"`
	Findings []jsonFinding `json:"findings"`
}

type jsonFinding struct {
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Column    int      `json:"column"`
	EndColumn int      `json:"endColumn,omitempty"`
	Rule      Rule     `json:"rule"`
	Severity  Severity `json:"severity"`
	Summary   string   `json:"summary"`
	Hint      string   `json:"hint,omitempty"`
}

func (ds Diagnostics) writeJSON(w io.Writer) error {
	out := jsonFindings{Findings: make([]jsonFinding, len(ds))}
	out.Errors, out.Warnings = ds.Count()
	for i, d := range ds {
		out.Findings[i] = jsonFinding{
			File: d.File, Line: d.Pos.Line, Column: d.Pos.Column, EndColumn: d.EndColumn,
			Rule: d.Rule, Severity: d.Severity, Summary: d.Summary, Hint: d.Hint,
		}
	}
	return writeIndented(w, out)
}

func writeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// maxAnnotations is how many annotations of a kind GitHub takes from a step;
// it drops what comes after, without a word.
const maxAnnotations = 10

// writeGitHub writes workflow commands. What GitHub would drop stands in the
// log as text.
func (ds Diagnostics) writeGitHub(w io.Writer) error {
	var b strings.Builder
	shown := map[Severity]int{}
	var rest Diagnostics
	for _, d := range ds {
		if shown[d.Severity] == maxAnnotations {
			rest = append(rest, d)
			continue
		}
		shown[d.Severity]++
		b.WriteString(annotation(d))
	}
	if len(rest) > 0 {
		fmt.Fprintf(&b, "%d more, beyond the %d annotations that GitHub shows of a kind:\n%s", len(rest), maxAnnotations, rest)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func annotation(d Diagnostic) string {
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	text := d.Summary
	if d.Hint != "" {
		text += "\nhint: " + d.Hint
	}
	place := fmt.Sprintf("file=%s,line=%d,col=%d", property.Replace(forgePath(d.File)), d.Pos.Line, d.Pos.Column)
	if d.EndColumn > 0 {
		place += fmt.Sprintf(",endColumn=%d", d.EndColumn)
	}
	return fmt.Sprintf("::%s %s,title=%s::%s\n", d.Severity, place, property.Replace(string(d.Rule)), data.Replace(text))
}

// The parts of SARIF that findings need.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               Rule        `json:"id"`
		ShortDescription sarifText   `json:"shortDescription"`
		Default          sarifConfig `json:"defaultConfiguration"`
	}
	sarifConfig struct {
		Level Severity `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    Rule            `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     Severity        `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
		EndColumn   int `json:"endColumn,omitempty"`
	}
)

func (ds Diagnostics) writeSARIF(w io.Writer, version string) error {
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: make([]sarifResult, len(ds))}
	run.Tool.Driver = sarifDriver{Name: "runner", Version: version}
	index := map[Rule]int{}
	for i, r := range Rules() {
		index[r.ID] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{r.ID, sarifText{r.Doc}, sarifConfig{r.Severity}})
	}
	for i, d := range ds {
		text := d.Summary
		if d.Hint != "" {
			text += " (" + d.Hint + ")"
		}
		run.Results[i] = sarifResult{RuleID: d.Rule, RuleIndex: index[d.Rule], Level: d.Severity, Message: sarifText{text}, Locations: []sarifLocation{{sarifPhysical{
			sarifArtifact{fileURI(d.File)},
			sarifRegion{d.Pos.Line, d.Pos.Column, d.EndColumn},
		}}}}
	}
	return writeIndented(w, sarifLog{
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	})
}

// forgePath writes a path as forges know the files of a repository: ./plan.yaml
// is none of them, and a finding there would be shown nowhere.
func forgePath(name string) string { return filepath.ToSlash(filepath.Clean(name)) }

// fileURI returns a path as the relative or absolute reference that SARIF asks
// for: slashes, and everything escaped that is no plain path character.
func fileURI(name string) string {
	var b strings.Builder
	slashed := forgePath(name)
	for i := range len(slashed) {
		c := slashed[i]
		if Alphanumeric(c) || strings.IndexByte("-._~/!$&'()*+,;=@", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// Alphanumeric tells whether a byte is a letter or a digit of ASCII.
func Alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

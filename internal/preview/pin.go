package preview

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"time"

	"iothub-runner/internal/inputs"
	"iothub-runner/spec"
)

// A pinned preview is one JSON document, in lines that can be written and read in
// one pass whatever the size of the fleet:
//
//	{"schema":"runner/pinned/v2","plan":{...},...,"targets":[        the first
//	{"job":"move","devices":[["door-1","AAAAAAAAAAE="],...]}         any number,
//	,{"job":"lock","devices":[["door-1"],["door-2/module"]]}         after a comma but for the first
//	],"end":{"move":20000,"lock":20000},"sha256":"..."}              the last
//
// The last line counts the targets and holds the hash of all that is before
// it: a file that was cut or edited pins nothing.

// PinnedSchema is the value of a pinned preview's "schema" key. The document
// begins with it.
const PinnedSchema = "runner/pinned/v2"

// What ends the first line of a pinned preview, and begins the last one, beside
// an object.
const (
	pinTargets = `,"targets":[`
	pinEnd     = `],`
)

// PinHeader says what a pinned preview is of.
type PinHeader struct {
	Schema    string            `json:"schema"`
	Plan      PinnedPlan        `json:"plan"`
	Vars      map[string]string `json:"vars,omitempty"`  // but for secrets
	Files     map[string]string `json:"files,omitempty"` // hashes of those that the plan names
	Jobs      []PinnedJob       `json:"jobs"`            // in the order of the plan
	Hubs      []string          `json:"hubs"`
	CreatedAt time.Time         `json:"createdAt"`
	Runner    string            `json:"runner"`
}

// PinnedPlan is the plan that was previewed. Text is for readers; Apply reads
// the file itself again, and the two have to be the same.
type PinnedPlan struct {
	Name   string `json:"name"`
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Text   string `json:"text"`
}

// PinnedJob is a job that was previewed. Its hash covers what the plan takes
// from other files and from the command line.
type PinnedJob struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

// pinLine is any line but the first.
type pinLine struct {
	Job     string         `json:"job,omitempty"`
	Hub     int            `json:"hub,omitempty"`
	Devices [][]string     `json:"devices,omitempty"` // id; etag; hash of a payload of its own
	End     map[string]int `json:"end,omitempty"`
	SHA256  string         `json:"sha256,omitempty"`
}

// PinError means that a pinned preview could not be written.
type PinError struct{ Err error }

// Error says so.
func (e *PinError) Error() string { return fmt.Sprintf("pinned preview: %v", e.Err) }

// Unwrap returns what the file system said.
func (e *PinError) Unwrap() error { return e.Err }

// PinWriter writes a pinned preview. It is not safe for concurrent use.
type PinWriter struct {
	out     *bufio.Writer
	sum     hash.Hash
	targets map[string]int
	lines   int // of targets
}

// NewPinWriter begins a pinned preview of a plan whose text is given. Apply
// finds the plan under the plan's File.
func NewPinWriter(w io.Writer, plan *spec.Plan, text []byte, o Options) (*PinWriter, error) {
	pw := &PinWriter{sum: sha256.New(), targets: map[string]int{}}
	pw.out = bufio.NewWriterSize(io.MultiWriter(w, pw.sum), 64<<10)
	h := PinHeader{
		Schema: PinnedSchema, Vars: inputs.PublicVars(plan), Files: inputs.FilesOf(plan), CreatedAt: time.Now().UTC(), Runner: o.Runner,
		Plan: PinnedPlan{Name: plan.Name, File: plan.File, SHA256: plan.SHA256, Text: string(text)},
	}
	for i := range plan.Jobs {
		job := &plan.Jobs[i]
		h.Jobs = append(h.Jobs, PinnedJob{Name: job.Name, Hash: inputs.HashJob(job)})
		pw.targets[job.Name] = 0
	}
	for _, hub := range o.Hubs {
		h.Hubs = append(h.Hubs, hub.Name)
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, &PinError{Err: err}
	}
	return pw, pw.line("", text[:len(text)-1], pinTargets)
}

// Close ends the pinned preview. What was written before it is not one.
func (pw *PinWriter) Close() error {
	if err := pw.out.Flush(); err != nil {
		return &PinError{Err: err}
	}
	text, err := json.Marshal(pinLine{End: pw.targets, SHA256: hex.EncodeToString(pw.sum.Sum(nil))})
	if err != nil {
		return &PinError{Err: err}
	}
	if err := pw.line(pinEnd, text[1:], ""); err != nil {
		return err
	}
	if err := pw.out.Flush(); err != nil {
		return &PinError{Err: err}
	}
	return nil
}

// line writes a line: a text between what joins it to the others.
func (pw *PinWriter) line(before string, text []byte, after string) error {
	_, err := pw.out.WriteString(before)
	if err == nil {
		_, err = pw.out.Write(text)
	}
	if err == nil {
		_, err = pw.out.WriteString(after + "\n")
	}
	if err != nil {
		return &PinError{Err: err}
	}
	return nil
}

// add pins targets of a job that were looked at together, all on one hub.
func (pw *PinWriter) add(job string, fresh []seen) error {
	if len(fresh) == 0 {
		return nil
	}
	line := pinLine{Job: job, Hub: fresh[0].Pool, Devices: make([][]string, len(fresh))}
	for i, f := range fresh {
		pin := []string{f.String()}
		switch {
		case f.payload != nil:
			pin = append(pin, "", payloadSum(f.payload))
		case f.Sight != nil:
			pin = append(pin, f.ETag)
		}
		line.Devices[i] = pin
	}
	pw.targets[job] += len(fresh)
	text, err := json.Marshal(line)
	if err != nil {
		return &PinError{Err: err}
	}
	before := ""
	if pw.lines > 0 {
		before = ","
	}
	pw.lines++
	return pw.line(before, text, "")
}

// payloadSum is a short hash of a payload, to tell whether it has changed.
func payloadSum(payload json.RawMessage) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:8])
}

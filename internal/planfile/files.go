package planfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"iothub-runner/spec"
)

// Bounds on the files that a plan names, far above what a plan needs.
const (
	maxDevicesFile  = 160 << 20 // a million ids of devices
	maxPayloadFile  = 1 << 20   // eight times what the hub takes
	maxPayloadFiles = 64 << 20  // all of them together
	maxListed       = 5_000_000 // devices that the targets of a plan list, a shared file counted once
	maxFileFindings = 10        // that are shown of one file
)

// planFiles is what was read of the files that a plan names. A file that many
// jobs name is read once.
type planFiles struct {
	payloads map[string]payloadRead
	lists    map[string]listRead
	size     int // of the payload files
	listed   int // devices
}

// remark is a finding that has no place yet.
type remark struct {
	rule          spec.Rule
	summary, hint string
}

// inFolder is the path of a file below the folder of the plan.
func inFolder(name string) string { return path.Clean(strings.TrimPrefix(name, "./")) }

// checkFile makes sure that a file which a field of the plan names can be read,
// from the plan's folder.
func (p *parser) checkFile(key, name string, limit int64) *remark {
	if p.opts.FS == nil {
		return &remark{spec.RuleFile, fmt.Sprintf("%s %q cannot be read here", key, spec.Clip(name)), "a plan that is read from a stream has no folder; write the content into the plan"}
	}
	clean := inFolder(name)
	if name == "" || !fs.ValidPath(clean) || clean == "." {
		return &remark{spec.RuleFile, fmt.Sprintf("%s %q leaves the folder of the plan", key, spec.Clip(name)), "name a file beside the plan, as in data/doors.txt"}
	}
	info, err := fs.Stat(p.opts.FS, clean)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() { // a pipe could be waited for without end
		return &remark{spec.RuleFile, fmt.Sprintf("%s %q is no regular file", key, spec.Clip(name)), ""}
	}
	if err == nil && info.Size() > limit {
		return &remark{spec.RuleFile, fmt.Sprintf("%s %q has %d bytes", key, spec.Clip(name), info.Size()), fmt.Sprintf("at most %d are read", limit)}
	}
	if err != nil {
		return &remark{spec.RuleFile, fmt.Sprintf("%s %q: %v", key, spec.Clip(name), unwrapPath(err)), ""}
	}
	return nil
}

// file reads such a file.
func (p *parser) file(key, name string, limit int64) ([]byte, *remark) {
	if problem := p.checkFile(key, name, limit); problem != nil {
		return nil, problem
	}
	content, err := fs.ReadFile(p.opts.FS, inFolder(name))
	if err != nil {
		return nil, &remark{spec.RuleFile, fmt.Sprintf("%s %q: %v", key, spec.Clip(name), unwrapPath(err)), ""}
	}
	return content, nil
}

func newFile(field, name string, content []byte) spec.File {
	sum := sha256.Sum256(content)
	return spec.File{Field: field, Name: name, SHA256: hex.EncodeToString(sum[:])}
}

// payloadRead is a payload from a file, or why there is none.
type payloadRead struct {
	payload *jsonValue
	file    spec.File
	remarks []remark
}

// payloadFile takes the payload from a file beside the plan.
func (p *parser) payloadFile(j *jobSection) {
	n, name := j.value("payloadFile"), *j.PayloadFile
	read, ok := p.files.payloads[name]
	if !ok {
		read = p.readPayload(name)
		p.files.payloads[name] = read
	}
	for _, r := range read.remarks {
		p.at(n, r.rule, r.summary, r.hint)
	}
	if read.payload != nil {
		p.payloadSize(n, len(read.payload.json))
		j.files = append(j.files, read.file)
		j.Payload = read.payload
	}
}

func (p *parser) readPayload(name string) payloadRead {
	content, problem := p.file("payloadFile", name, maxPayloadFile)
	if problem != nil {
		return payloadRead{remarks: []remark{*problem}}
	}
	if p.files.size += len(content); p.files.size > maxPayloadFiles {
		return payloadRead{remarks: []remark{{spec.RuleFile, fmt.Sprintf("the payload files have more than %d bytes together", maxPayloadFiles), "split the plan"}}}
	}
	file := newFile("payloadFile", name, content)
	content = bytes.TrimPrefix(content, []byte("\uFEFF")) // editors on Windows write one; no device wants it
	var value json.RawMessage
	if err := json.Unmarshal(content, &value); err != nil || !utf8.Valid(content) {
		pos, fault := jsonFault(content, err)
		p.inFile(name, pos, spec.RuleFile, fmt.Sprintf("payloadFile %q is not JSON: %s", spec.Clip(name), fault), "")
		return payloadRead{}
	}
	for _, f := range checkJSON(string(content)) {
		p.inFile(name, f.pos, f.rule, f.summary, f.hint)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		panic("spec: JSON that was valid is not: " + err.Error())
	}
	read := payloadRead{payload: &jsonValue{json: compact.Bytes()}, file: file}
	if found := p.src.secrets.scanner.Kind(string(content)); found != "" {
		read.remarks = append(read.remarks, remark{spec.RuleSecret, fmt.Sprintf("payloadFile %q holds %s", spec.Clip(name), found), secretHint})
	}
	return read
}

// listRead is what a file of devices lists, or why it cannot be read.
type listRead struct {
	ids     spec.DeviceList
	rows    *rowFile // with values; nil for ids alone
	file    spec.File
	problem *remark
}

// devicesFile takes the ids of a target from a file beside the plan, one a
// line. The ids that stand in the plan itself come before them.
func (p *parser) devicesFile(t *targetSection, named map[spec.DeviceID]int) {
	n, name := t.value("devicesFile"), *t.DevicesFile
	read, ok := p.files.lists[name]
	if !ok {
		if isRows(name) {
			read = p.readRows(name)
		} else {
			read = p.readList(name)
		}
		p.files.lists[name] = read
	}
	if read.problem != nil {
		p.at(n, read.problem.rule, read.problem.summary, read.problem.hint)
		return
	}
	t.files, t.rows = append(t.files, read.file), read.rows
	if t.ids.Len() == 0 {
		t.ids = read.ids // shared by all targets that list no more than the file does
		return
	}
	if p.files.listed += read.ids.Len(); p.files.listed > maxListed {
		p.at(n, spec.RuleTarget, fmt.Sprintf("the targets of this plan list more than %d devices", maxListed), "split the plan, or select the devices by a query")
		return
	}
	own := t.ids
	t.ids = spec.ListDevices(slices.Collect(own.All())...) // the other is shared
	for id := range read.ids.All() {
		if i, twice := named[id]; twice {
			p.at(deref(t.value("devices")).Content[i], spec.RuleTarget, fmt.Sprintf("device %q is listed in devicesFile, too", spec.Clip(id.String())), "keep one of them")
		}
		t.ids.Add(id)
	}
}

// readList reads a file of devices. Its findings carry the positions of the
// file, and are made once.
func (p *parser) readList(name string) listRead {
	content, problem := p.file("devicesFile", name, maxDevicesFile)
	if problem != nil {
		return listRead{problem: problem}
	}
	read := listRead{file: newFile("devicesFile", name, content)}
	findings, seen, i := 0, newIDTable(), -1
	for line := range strings.Lines(strings.TrimPrefix(string(content), "\uFEFF")) {
		i++
		line = withoutComment(line)
		id := deviceID(line)
		switch {
		case line == "":
		case findings == maxFileFindings:
			read.ids = seen.list
			return read
		case !validDeviceID(line):
			findings++
			p.inFile(name, spec.Pos{Line: i + 1, Column: 1}, spec.RuleDeviceID, fmt.Sprintf("%q cannot be the id of a device", spec.Clip(line)), deviceIDHint)
		case !seen.add(id):
			findings++
			p.inFile(name, spec.Pos{Line: i + 1, Column: 1}, spec.RuleTarget, fmt.Sprintf("device %q is listed twice", spec.Clip(line)), "keep one of them")
		}
	}
	if read.ids = seen.list; read.ids.Len() == 0 && findings == 0 {
		read.problem = &remark{spec.RuleFile, fmt.Sprintf("devicesFile %q lists no device", spec.Clip(name)), "write one id a line"}
	}
	if p.files.listed += read.ids.Len(); p.files.listed > maxListed {
		read.problem = &remark{spec.RuleTarget, fmt.Sprintf("the targets of this plan list more than %d devices", maxListed), "split the plan, or select the devices by a query"}
	}
	return read
}

// withoutComment leaves out a comment: a # at the start of the line or after
// white space, and all that follows. Any other # belongs to the id.
func withoutComment(line string) string {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
			break
		}
	}
	return strings.TrimSpace(line)
}

// inFile notes a finding in a file that the plan names.
func (p *parser) inFile(name string, pos spec.Pos, rule spec.Rule, summary, hint string) {
	d := p.report(spec.Pos{Line: 1, Column: 1}, rule, summary, hint)
	d.File, d.Pos, d.Source = filepath.Join(filepath.Dir(p.src.name), filepath.FromSlash(name)), pos, ""
}

// unwrapPath leaves out the path, which the message names already.
func unwrapPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxFile is the largest file that a plan may name: a million ids of devices.
const maxFile = 160 << 20

// file reads a file that a field of the plan names, from the plan's folder.
func (p *parser) file(n *yaml.Node, key, name string) (content []byte, ok bool) {
	if p.opts.FS == nil {
		p.at(n, RuleFile, fmt.Sprintf("%s %q cannot be read here", key, clip(name)), "a plan that is read from a stream has no folder; write the content into the plan")
		return nil, false
	}
	clean := path.Clean(strings.TrimPrefix(name, "./"))
	if name == "" || !fs.ValidPath(clean) || clean == "." {
		p.at(n, RuleFile, fmt.Sprintf("%s %q leaves the folder of the plan", key, clip(name)), "name a file beside the plan, as in data/doors.txt")
		return nil, false
	}
	info, err := fs.Stat(p.opts.FS, clean)
	if err == nil && info.Size() > maxFile {
		p.at(n, RuleFile, fmt.Sprintf("%s %q has %d bytes", key, clip(name), info.Size()), fmt.Sprintf("at most %d are read", maxFile))
		return nil, false
	}
	if err == nil {
		content, err = fs.ReadFile(p.opts.FS, clean)
	}
	if err != nil {
		p.at(n, RuleFile, fmt.Sprintf("%s %q: %v", key, clip(name), unwrapPath(err)), "")
		return nil, false
	}
	return content, true
}

// payloadFile reads the payload from a file beside the plan.
func (p *parser) payloadFile(j *jobSection) {
	n, name := j.value("payloadFile"), *j.PayloadFile
	content, ok := p.file(n, "payloadFile", name)
	if !ok {
		return
	}
	var value json.RawMessage
	if err := json.Unmarshal(content, &value); err != nil || !utf8.Valid(content) {
		p.at(n, RuleFile, fmt.Sprintf("payloadFile %q is not JSON: %s", clip(name), jsonFault(content, err)), "")
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		panic("spec: JSON that was valid is not: " + err.Error())
	}
	if found := p.src.secrets.scanner.kind(string(content)); found != "" {
		p.at(n, RuleSecret, fmt.Sprintf("payloadFile %q holds %s", clip(name), found), secretHint)
	}
	p.payloadSize(n, compact.Len())
	j.Payload = &jsonValue{json: compact.Bytes()}
}

// maxFileFindings bounds what is said of one file.
const maxFileFindings = 10

// devicesFile reads the ids of a target from a file beside the plan, one a
// line. Its findings carry the positions of the file.
func (p *parser) devicesFile(t *targetSection, seen map[DeviceID]bool) {
	n, name := t.value("devicesFile"), *t.DevicesFile
	content, ok := p.file(n, "devicesFile", name)
	if !ok {
		return
	}
	findings, before := 0, len(t.ids)
	for i, line := range strings.Split(strings.TrimPrefix(string(content), "\uFEFF"), "\n") {
		word, _, _ := strings.Cut(line, "#")
		if strings.HasPrefix(line, "#") || strings.Contains(line, " #") || strings.Contains(line, "\t#") {
			line = word
		}
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		id := deviceID(line)
		switch {
		case findings == maxFileFindings:
			return
		case !validDeviceID(line):
			findings++
			p.inFile(name, i+1, RuleDeviceID, fmt.Sprintf("%q cannot be the id of a device", clip(line)), deviceIDHint)
		case seen[id]:
			findings++
			p.inFile(name, i+1, RuleTarget, fmt.Sprintf("device %q is listed twice", clip(line)), "keep one of them")
		default:
			seen[id] = true
			t.ids = append(t.ids, id)
		}
	}
	if len(t.ids) == before && findings == 0 {
		p.at(n, RuleFile, fmt.Sprintf("devicesFile %q lists no device", clip(name)), "write one id a line")
	}
}

// inFile notes a finding in a file that the plan names.
func (p *parser) inFile(name string, line int, rule Rule, summary, hint string) {
	d := p.report(Pos{1, 1}, rule, summary, hint)
	d.File, d.Pos, d.Source = name, Pos{line, 1}, ""
}

// unwrapPath leaves out the path, which the message names already.
func unwrapPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// jsonFault says what is wrong with a text that should be JSON, and where.
func jsonFault(content []byte, err error) string {
	var at *json.SyntaxError
	if !errors.As(err, &at) {
		return "it is not UTF-8"
	}
	src := newSource("", string(content))
	pos := src.clamp(src.pos(min(max(int(at.Offset)-1, 0), len(content))))
	return fmt.Sprintf("line %d, column %d: %v", pos.Line, pos.Column, at)
}

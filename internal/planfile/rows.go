package planfile

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"iothub-runner/spec"
)

// maxRow is the largest row of a file with values, far above what a device needs.
const maxRow = 64<<10 - 1

// rowFile is a devicesFile with a row of values for each device: CSV with a header,
// or one JSON object a line. It is not held in memory, only where each row stands
// and a checksum of it; a row is read when its device has its turn.
type rowFile struct {
	fsys   fs.FS
	name   string
	header []string // of CSV; nil for JSON
	ids    *idTable
	starts []uint32 // a devicesFile is smaller than four gigabytes
	sizes  []uint16
	sums   []uint32

	open sync.Once
	file io.ReaderAt
	err  error
}

// isRows tells whether a file has values beside the ids of devices.
func isRows(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".csv", ".ndjson", ".jsonl":
		return true
	}
	return false
}

// errRowChanged means that the file is not the one any more that was checked.
var errRowChanged = errors.New("the devicesFile has changed since the plan was read")

// Row returns the values of a device as a JSON object; nil if it has no row.
func (r *rowFile) Row(id spec.DeviceID) (json.RawMessage, error) {
	if i, ok := r.ids.find(id); ok {
		return r.row(i)
	}
	return nil, nil
}

func (r *rowFile) row(i int) (json.RawMessage, error) {
	r.open.Do(func() { r.file, r.err = openRows(r.fsys, r.name) })
	if r.err != nil {
		return nil, r.err
	}
	text := make([]byte, r.sizes[i])
	if _, err := r.file.ReadAt(text, int64(r.starts[i])); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read devicesFile %q: %w", r.name, unwrapPath(err))
	}
	if crc32.ChecksumIEEE(text) != r.sums[i] {
		return nil, errRowChanged
	}
	if r.header == nil {
		return text, nil
	}
	record, err := newCSV(bytes.NewReader(text)).Read()
	if err != nil {
		return nil, errRowChanged
	}
	return objectOf(r.header, record), nil
}

// openRows opens a file to read at any place in it.
func openRows(fsys fs.FS, name string) (io.ReaderAt, error) {
	f, err := fsys.Open(inFolder(name))
	if err != nil {
		return nil, fmt.Errorf("read devicesFile %q: %w", name, unwrapPath(err))
	}
	if at, ok := f.(io.ReaderAt); ok { // it stays open as long as the plan is in use
		return at, nil
	}
	text, err := io.ReadAll(f)
	return bytes.NewReader(text), err
}

func newCSV(in io.Reader) *csv.Reader {
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1 // counted here, for a message that says more
	return r
}

func objectOf(header, record []string) json.RawMessage {
	b := []byte{'{'}
	for i, name := range header[:min(len(header), len(record))] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(spec.AppendString(b, name), ':')
		b = spec.AppendString(b, strings.ToValidUTF8(record[i], "\uFFFD"))
	}
	return append(b, '}')
}

// add notes a row; false if its device has one already.
func (r *rowFile) add(id spec.DeviceID, start int64, text []byte) bool {
	if !r.ids.add(id) {
		return false
	}
	r.starts, r.sizes, r.sums = append(r.starts, uint32(start)), append(r.sizes, uint16(len(text))), append(r.sums, crc32.ChecksumIEEE(text)) //nolint:gosec // rows are bounded
	return true
}

// clip gives back what room there is for more rows.
func (r *rowFile) clip() {
	r.starts, r.sizes, r.sums = slices.Clip(slices.Clone(r.starts)), slices.Clip(slices.Clone(r.sizes)), slices.Clip(slices.Clone(r.sums))
	r.ids.list.Clip()
}

// rowReader reads a file with values for the first time, line by line.
type rowReader struct {
	p        *parser
	rows     *rowFile
	findings int
	sum      *fileSum
}

// fileSum hashes what is read through it.
type fileSum struct {
	in  io.Reader
	sum interface {
		io.Writer
		Sum(b []byte) []byte
	}
	kept []byte // of what was read and is not taken yet
	at   int64  // where kept begins
	keep bool
}

// Read reads, hashes and keeps.
func (f *fileSum) Read(p []byte) (int, error) {
	n, err := f.in.Read(p)
	_, _ = f.sum.Write(p[:n]) // a hash never returns an error
	if f.keep {
		f.kept = append(f.kept, p[:n]...)
	}
	return n, err
}

// text returns what stands between two places and forgets what is before.
func (f *fileSum) text(from, to int64) []byte {
	text := bytes.Clone(f.kept[from-f.at : to-f.at])
	f.kept = append(f.kept[:0], f.kept[to-f.at:]...)
	f.at = to
	return text
}

func (r *rowReader) fault(line int, rule spec.Rule, summary, hint string) {
	if r.findings++; r.findings <= maxFileFindings {
		r.p.inFile(r.rows.name, spec.Pos{Line: line, Column: 1}, rule, summary, hint)
	}
}

// readRows reads a devicesFile with values. Its findings carry the positions of
// the file.
func (p *parser) readRows(name string) listRead {
	if problem := p.checkFile("devicesFile", name, maxDevicesFile); problem != nil {
		return listRead{problem: problem}
	}
	f, err := p.opts.FS.Open(inFolder(name))
	if err != nil {
		return listRead{problem: &remark{spec.RuleFile, fmt.Sprintf("devicesFile %q: %v", spec.Clip(name), unwrapPath(err)), ""}}
	}
	defer f.Close() //nolint:errcheck // only read
	r := &rowReader{p: p, rows: &rowFile{fsys: p.opts.FS, name: name, ids: newIDTable()}, sum: &fileSum{in: f, sum: sha256.New()}}
	if strings.EqualFold(path.Ext(name), ".csv") {
		err = r.csv()
	} else {
		err = r.json()
	}
	if err != nil {
		return listRead{problem: &remark{spec.RuleFile, fmt.Sprintf("devicesFile %q: %v", spec.Clip(name), unwrapPath(err)), ""}}
	}
	r.rows.clip()
	read := listRead{ids: r.rows.ids.list, rows: r.rows}
	read.file = spec.File{Field: "devicesFile", Name: name, SHA256: hex.EncodeToString(r.sum.sum.Sum(nil))}
	switch {
	case read.ids.Len() == 0 && r.findings == 0:
		read.problem = &remark{spec.RuleFile, fmt.Sprintf("devicesFile %q lists no device", spec.Clip(name)), "write a row for each"}
	case p.files.listed+read.ids.Len() > maxListed:
		read.problem = &remark{spec.RuleTarget, fmt.Sprintf("the targets of this plan list more than %d devices", maxListed), "split the plan, or select the devices by a query"}
	}
	p.files.listed += read.ids.Len()
	return read
}

// take notes a row, or says what is wrong with its ids.
func (r *rowReader) take(line int, device, module string, start int64, text []byte) {
	name := device
	if module != "" {
		name += "/" + module
	}
	id := spec.DeviceID{Device: device, Module: module}
	switch {
	case len(text) > maxRow:
		r.fault(line, spec.RuleFile, fmt.Sprintf("the row has %d bytes", len(text)), fmt.Sprintf("a row may have %d", maxRow))
	case !validDeviceID(name) || strings.Contains(device, "/"):
		r.fault(line, spec.RuleDeviceID, fmt.Sprintf("%q cannot be the id of a device", spec.Clip(name)), deviceIDHint)
	case !r.rows.add(id, start, text):
		r.fault(line, spec.RuleTarget, fmt.Sprintf("device %q is listed twice", spec.Clip(name)), "keep one of them")
	}
}

// csv reads RFC 4180 with a header.
func (r *rowReader) csv() error {
	r.sum.keep = true
	in := newCSV(r.sum)
	device, module, before := -1, -1, int64(0)
	for n := 0; ; n++ {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if syntax, ok := errors.AsType[*csv.ParseError](err); ok {
			r.fault(syntax.Line, spec.RuleFile, "not a row of CSV: "+syntax.Err.Error(), `put quotes around a value that has commas, quotes or line breaks in it, and write " as ""`)
			return nil
		}
		if err != nil {
			return err
		}
		line, _ := in.FieldPos(0)
		start, end := before, in.InputOffset()
		before = end
		text := r.sum.text(start, end)
		switch {
		case n == 0:
			record[0] = strings.TrimPrefix(record[0], "\uFEFF")
			if device, module = r.columns(record); device < 0 {
				return nil
			}
		case len(record) != len(r.rows.header):
			r.fault(line, spec.RuleFile, fmt.Sprintf("the row has %d of the %d values that the header names", len(record), len(r.rows.header)), "leave a value empty by writing its comma")
		case module >= 0:
			r.take(line, record[device], record[module], start, text)
		default:
			r.take(line, record[device], "", start, text)
		}
	}
}

// columns reads the header, and says where the ids are; device is negative if
// there are none.
func (r *rowReader) columns(header []string) (device, module int) {
	device, module = -1, -1
	seen := map[string]bool{}
	for i, name := range header {
		switch {
		case seen[name]:
			r.fault(1, spec.RuleFile, fmt.Sprintf("the header has column %q twice", spec.Clip(name)), "keep one of them")
			return -1, -1
		case name == "deviceId":
			device = i
		case name == "moduleId":
			module = i
		}
		seen[name] = true
		r.rows.header = append(r.rows.header, strings.Clone(name))
	}
	if device < 0 {
		r.fault(1, spec.RuleFile, "the header has no column deviceId", "the first line names the columns, as in deviceId,floor")
	}
	return device, module
}

// json reads one object a line.
func (r *rowReader) json() error {
	in := bufio.NewReaderSize(r.sum, 64<<10)
	var at int64
	for line := 1; ; line++ {
		text, err := in.ReadBytes('\n')
		start := at
		at += int64(len(text))
		if line == 1 && bytes.HasPrefix(text, []byte("\uFEFF")) {
			text = text[len("\uFEFF"):]
			start += int64(len("\uFEFF"))
		}
		if row := bytes.TrimSpace(text); len(row) > 0 {
			r.object(line, row, start+int64(bytes.Index(text, row)))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *rowReader) object(line int, text []byte, start int64) {
	doc := gjson.ParseBytes(text)
	if !json.Valid(text) || !utf8.Valid(text) || !doc.IsObject() {
		r.fault(line, spec.RuleFile, "the line is not a JSON object", `write one object a line, as in {"deviceId": "door-1", "floor": 3}`)
		return
	}
	device, module := doc.Get("deviceId"), doc.Get("moduleId")
	if device.Type != gjson.String || module.Exists() && module.Type != gjson.String {
		r.fault(line, spec.RuleFile, "the object has no deviceId that is a text", "each line names its device, as in \"deviceId\": \"door-1\"")
		return
	}
	r.take(line, device.Str, module.Str, start, text)
}

// checkRows: values of a row come from a file that has them, for each device.
func checkRows(p *parser, d *document) {
	for _, j := range d.Jobs {
		for _, v := range []*jsonValue{j.Payload, j.Desired, j.Tags, j.reported()} {
			if v != nil && v.template != nil && j.Target != nil {
				p.checkRowValues(j, v.template.RowValues())
			}
		}
		if j.Target != nil && j.Guard != nil && *j.Guard == string(spec.GuardRecorded) {
			p.checkRowValues(j, []spec.Piece{spec.RecordedETag()})
		}
	}
}

func (j *jobSection) reported() *jsonValue {
	if j.Confirm == nil {
		return nil
	}
	return j.Confirm.Reported
}

func (p *parser) checkRowValues(j *jobSection, pieces []spec.Piece) {
	if len(pieces) == 0 {
		return
	}
	rows := j.Target.rows
	if rows == nil {
		if !j.Target.has("devicesFile") || !isRows(*j.Target.DevicesFile) {
			p.at(j.Target.node, spec.RulePlaceholder, pieces[0].String()+" needs a devicesFile with values", "name a file that ends in .csv, with a header, or in .ndjson")
		}
		return
	}
	faults := 0
	for i := range rows.ids.list.Len() {
		row, err := rows.row(i)
		if err != nil {
			return // the file changes under our hands; the run says so
		}
		for _, pc := range pieces {
			if err := (spec.Device{Row: row}).Lacks(pc); err != nil {
				line := rows.line(i)
				p.inFile(rows.name, spec.Pos{Line: line, Column: 1}, spec.RulePlaceholder, fmt.Sprintf("device %q: %v", spec.Clip(rows.ids.list.At(i).String()), err), "write the value, or give a fallback in the plan, as in ${row.NAME|0}")
				faults++
			}
		}
		if faults >= maxFileFindings {
			return
		}
	}
}

// line counts the lines up to a row.
func (r *rowFile) line(i int) int {
	f, err := r.fsys.Open(inFolder(r.name))
	if err != nil {
		return 1
	}
	defer f.Close() //nolint:errcheck // only read
	in, lines := bufio.NewReader(io.LimitReader(f, int64(r.starts[i]))), 1
	for {
		chunk, err := in.ReadSlice('\n')
		if bytes.HasSuffix(chunk, []byte{'\n'}) {
			lines++
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return lines
		}
	}
}

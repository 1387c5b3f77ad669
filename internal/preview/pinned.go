package preview

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/inputs"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// Pinned is a pinned preview as it was read: the devices that a run may touch,
// and the etags that their twins have to have.
type Pinned struct {
	Header PinHeader

	sum     string                       // a hash of the file
	devices *cohort.Cohort               // of all jobs
	members map[string]*bitset           // of devices, by job
	sums    map[string]map[uint32]string // of payloads that differ by device, by job

	// ETags are those of the twins, by index; empty if the twin was not looked at.
	// A run keeps them up to date with its own patches.
	ETags []string
}

// ErrNotPinned means that a file is not a pinned preview.
var ErrNotPinned = errors.New("it is not a pinned preview")

// IsPinned tells from the beginning of a file whether it is meant to be a
// pinned preview, also one that somebody has written in another form.
func IsPinned(head []byte) bool {
	for _, part := range []string{"{", `"schema"`, ":"} {
		rest, found := bytes.CutPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte(part))
		if !found {
			return false
		}
		head = rest
	}
	return bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte(`"runner/pinned/`))
}

// ReadPinned reads a pinned preview. The error says why it is none, or why it
// is not whole.
func ReadPinned(r io.Reader) (*Pinned, error) {
	p := &Pinned{devices: cohort.New(), members: map[string]*bitset{}, sums: map[string]map[uint32]string{}}
	in := bufio.NewReaderSize(r, 64<<10)
	sum := sha256.New()
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil, errors.New("it ends before its last line: it was not written to the end, or was cut")
			}
			return nil, err
		}
		if n == 1 {
			err = p.header(line)
		} else {
			var end bool
			if end, err = p.line(line, sum.Sum(nil)); end && err == nil {
				return p, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		_, _ = sum.Write(line) // never returns an error
	}
}

func (p *Pinned) header(line []byte) error {
	text, whole := bytes.CutSuffix(line, []byte(pinTargets+"\n"))
	if whole {
		text = append(bytes.Clone(text), '}')
	}
	if err := json.Unmarshal(text, &p.Header); (err != nil || p.Header.Schema == "") && IsPinned(line) {
		return errors.New("it was changed after it was written: its first line is not as it was")
	} else if err != nil || p.Header.Schema == "" {
		return ErrNotPinned
	}
	if p.Header.Schema != PinnedSchema {
		return fmt.Errorf("it has the schema %q, this runner reads %q", p.Header.Schema, PinnedSchema)
	}
	for _, j := range p.Header.Jobs {
		p.members[j.Name] = &bitset{}
		p.sums[j.Name] = map[uint32]string{}
	}
	return nil
}

// line takes in any line but the first, and tells whether it is the last.
func (p *Pinned) line(text, sum []byte) (end bool, err error) {
	var line pinLine
	if rest, last := bytes.CutPrefix(text, []byte(pinEnd)); last {
		text = append([]byte{'{'}, rest...)
	}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte{','}), &line); err != nil {
		return false, errors.New("it is not as it was written")
	}
	if line.End != nil {
		if line.SHA256 != hex.EncodeToString(sum) {
			return true, errors.New("the file was changed after it was written: its hash is another")
		}
		p.sum = line.SHA256[:inputs.HashLength]
		return true, nil
	}
	members := p.members[line.Job]
	if members == nil {
		return false, fmt.Errorf("there is no job %q in it", line.Job)
	}
	for _, d := range line.Devices {
		if len(d) == 0 || line.Hub < 0 || line.Hub >= len(p.Header.Hubs) {
			return false, errors.New("it names no device")
		}
		device, module, _ := strings.Cut(d[0], "/")
		index, known := p.devices.Add(cohort.Key{Pool: line.Hub, Target: hub.Target{DeviceID: device, ModuleID: module}})
		if !known {
			p.ETags = append(p.ETags, "")
		}
		if len(d) > 1 && p.ETags[index] == "" {
			p.ETags[index] = d[1]
		}
		if len(d) > 2 {
			p.sums[line.Job][index] = d[2]
		}
		members.add(index)
	}
	return false, nil
}

// PinMismatchError means that a plan is not what was previewed any more.
type PinMismatchError struct{ What string }

// Error says what has changed.
func (e *PinMismatchError) Error() string { return e.What + " since the preview was made" }

// Check refuses a plan that is not the one that was previewed. The plan has to
// have the jobs of the preview and no others.
func (p *Pinned) Check(plan *spec.Plan, hubs []string) error {
	h := &p.Header
	if plan.SHA256 != h.Plan.SHA256 {
		return &PinMismatchError{What: fmt.Sprintf("the plan file %q has changed", plan.File)}
	}
	if len(plan.Jobs) != len(h.Jobs) {
		return &PinMismatchError{What: "the jobs of the plan have changed"}
	}
	for i, j := range h.Jobs {
		job := &plan.Jobs[i]
		if job.Name != j.Name {
			return &PinMismatchError{What: "the jobs of the plan have changed"}
		}
		if inputs.HashJob(job) == j.Hash {
			continue
		}
		if why := inputs.ChangedFiles(h.Files, job); len(why) > 0 {
			return &PinMismatchError{What: fmt.Sprintf("job %q: %s", j.Name, strings.Join(why, ", "))}
		}
		return &PinMismatchError{What: fmt.Sprintf("job %q: what runner makes of it has changed", j.Name)}
	}
	if len(hubs) != len(h.Hubs) {
		return &PinMismatchError{What: "the hubs of the plan have changed"}
	}
	for i, name := range hubs {
		if !strings.EqualFold(name, h.Hubs[i]) {
			return &target.WrongHubError{Want: h.Hubs[i], Have: name, Pinned: true}
		}
	}
	return nil
}

// Sum is a hash of the file, to tell it from others.
func (p *Pinned) Sum() string { return p.sum }

// Index returns where a target stands among the devices of all jobs.
func (p *Pinned) Index(t cohort.Key) (uint32, bool) { return p.devices.Lookup(t) }

// Device returns what stands there.
func (p *Pinned) Device(i uint32) cohort.Key { return p.devices.Target(i) }

// Devices is how many there are.
func (p *Pinned) Devices() int { return p.devices.Size() }

// Has tells whether a job may touch the device there.
func (p *Pinned) Has(job string, i uint32) bool {
	members := p.members[job]
	return members != nil && members.has(i)
}

// Empty tells whether the preview has no device for a job.
func (p *Pinned) Empty(job string) bool {
	members := p.members[job]
	return members == nil || !slices.ContainsFunc(members.words, func(w uint64) bool { return w != 0 })
}

// SamePayload tells whether a job would send to the device there what the
// preview showed.
func (p *Pinned) SamePayload(job string, i uint32, payload json.RawMessage) bool {
	return p.sums[job][i] == payloadSum(payload)
}

// bitset is a set of small numbers.
type bitset struct{ words []uint64 }

func (b *bitset) add(i uint32) {
	for int(i/64) >= len(b.words) {
		b.words = append(b.words, 0)
	}
	b.words[i/64] |= 1 << (i % 64)
}

func (b *bitset) has(i uint32) bool {
	return int(i/64) < len(b.words) && b.words[i/64]&(1<<(i%64)) != 0
}

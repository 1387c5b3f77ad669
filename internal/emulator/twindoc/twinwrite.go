package twindoc

import (
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/wire"
)

// Write is what a service asks to change of a twin.
type Write struct {
	Condition Condition
	Replace   bool // PUT: the sections are replaced, not merged
	Tags      SectionWrite
	Desired   SectionWrite
	Text      []byte // of desired, as the device is told
}

// SectionWrite is what a service asks to change of one section.
type SectionWrite struct {
	Doc     *Node // nil: nothing
	Replace bool
	Null    bool // the body mentions the section as null
}

// RefuseNulls refuses a replacement that says null of a key: there is nothing to
// delete from what is new as a whole.
func (w *Write) RefuseNulls() *refuse.Error {
	if !w.Replace {
		return nil
	}
	for _, sec := range []struct {
		name string
		doc  *Node
	}{{"tags", w.Tags.Doc}, {"properties.desired", w.Desired.Doc}} {
		if sec.doc == nil {
			continue
		}
		if key := sec.doc.nullKey(); key != "" {
			return refuse.Argument("The '%s' of the twin hold the key '%s', which cannot be null when the twin is replaced.", sec.name, key)
		}
	}
	return nil
}

// WithNulls returns the text of a replacement as a patch: what it leaves out of
// the section before is null.
func (w SectionWrite) WithNulls(before Section) []byte {
	old := before.Tree()
	doc := w.Doc.against(&old)
	return doc.AppendPatch(nil)
}

// against returns an object with null for each key that only the old one has.
func (n *Node) against(old *Node) Node {
	doc := *n
	doc.Kids = slices.Clone(n.Kids)
	for i := range old.Kids {
		was := &old.Kids[i]
		switch at := doc.find(was.Key); {
		case at < 0:
			doc.Kids = append(doc.Kids, Node{Key: was.Key, null: true})
		case was.Object && doc.Kids[at].Object:
			doc.Kids[at] = doc.Kids[at].against(was)
		}
	}
	return doc
}

// ParseWrite reads a body. Only tags and properties.desired can be written
// by services; what else stands there was read and is sent back, and ignored.
func ParseWrite(body []byte, arrays bool) (Write, *refuse.Error) {
	var w Write
	var refusal *refuse.Error
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		switch {
		case strings.EqualFold(k.Str, "tags"):
			refusal = w.Tags.Read("tags", v, arrays)
		case strings.EqualFold(k.Str, "desired"):
			refusal = refuse.Argument("The twin has no member 'desired' of its own; it belongs into 'properties'.")
		case strings.EqualFold(k.Str, "properties") && v.Type != gjson.Null:
			if !v.IsObject() {
				refusal = refuse.Argument("The 'properties' of the twin must be a JSON object.")
			}
			v.ForEach(func(k, v gjson.Result) bool {
				if strings.EqualFold(k.Str, "desired") {
					refusal = w.Desired.Read("properties.desired", v, arrays)
				}
				return refusal == nil
			})
		}
		return refusal == nil
	})
	return w, refusal
}

func (w *SectionWrite) Read(name string, v gjson.Result, arrays bool) *refuse.Error {
	if v.Type == gjson.Null {
		*w = SectionWrite{Null: true}
		return nil
	}
	n, refusal := PatchReader{Name: name, Arrays: arrays}.Read(v)
	*w = SectionWrite{Doc: &n}
	return refusal
}

// AppendPatch writes a patch back, nulls included.
func (n *Node) AppendPatch(dst []byte) []byte {
	if !n.Object {
		return append(dst, n.Raw...)
	}
	dst = append(dst, '{')
	for i := range n.Kids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.String(dst, n.Kids[i].Key)
		dst = append(dst, ':')
		if n.Kids[i].null {
			dst = append(dst, "null"...)
			continue
		}
		dst = n.Kids[i].AppendPatch(dst)
	}
	return append(dst, '}')
}

// Apply returns the twin after the write. Sections that were not mentioned
// stay as they are kept; full has them all filled in.
func (w Write) Apply(kept, full Twin, now time.Time) (Twin, *refuse.Error) {
	next := kept
	next.ETag++
	next.Version++
	if w.Tags.Doc != nil {
		next.Tags = w.Tags.over(full.Tags, now)
		next.Tags.Stamps = nil // the hub keeps no metadata of tags
		if refusal := TooLarge("tags", full.Tags, next.Tags, MaxTagsSize); refusal != nil {
			return kept, refusal
		}
	}
	if w.Desired.Doc != nil {
		next.Desired = w.Desired.over(full.Desired, now)
		if refusal := TooLarge("properties.desired", full.Desired, next.Desired, MaxPropsSize); refusal != nil {
			return kept, refusal
		}
	}
	return next, nil
}

func (w SectionWrite) over(before Section, now time.Time) Section {
	if w.Replace {
		return before.replaced(w.Doc, now)
	}
	return before.Patched(w.Doc, now)
}

// ChangesNothing compares the values that services write.
func ChangesNothing(before, after Twin) bool {
	return before.Tags.Raw == after.Tags.Raw && before.Desired.Raw == after.Desired.Raw
}

// Twin is the part that services and devices write.
type Twin struct {
	Tags, Desired, Reported Section
	ETag                    uint64 // counts writes by services
	Version                 int64  // counts all writes
	Pending                 *Pending
}

// Pending is what a simulated device is going to report: one patch for each
// write of its desired properties, in their order.
type Pending struct{ Reports []Report }

// Report is one patch of reported properties, and when it comes.
type Report struct {
	Due   int64
	Patch string
}

// And returns what is pending with one more report, which comes after the others.
func (p *Pending) And(r Report) *Pending {
	if p == nil {
		return &Pending{Reports: []Report{r}}
	}
	r.Due = max(r.Due, p.Reports[len(p.Reports)-1].Due)
	return &Pending{Reports: append(p.Reports, r)}
}

// Rest is what is pending after the first report.
func (p *Pending) Rest() *Pending {
	if len(p.Reports) == 1 {
		return nil
	}
	return &Pending{Reports: p.Reports[1:]}
}

// IsDue tells whether there is something to report.
func (p *Pending) IsDue(now time.Time) bool { return p != nil && p.Reports[0].Due <= now.UnixNano() }

// Newborn is the twin of a device or module that was registered at a time.
func Newborn(now time.Time) Twin {
	sec := Section{Stamps: []Stamp{{At: now.UnixNano(), Version: 1}}, Version: 1}
	return Twin{Tags: Section{}, Desired: sec, Reported: sec, ETag: 1, Version: FirstVersion}
}

// FirstVersion is the version that a fresh twin shows in the documents.
const FirstVersion = 2

// Condition is a parsed If-Match header.
type Condition struct {
	Given bool
	Any   bool
	ETag  string
}

// Refuses says whether the condition does not hold for an etag.
func (c Condition) Refuses(etag string) bool {
	return c.Given && !c.Any && c.ETag != etag
}

package hubtest

import (
	"strings"

	"iothub-runner/internal/hub"
)

func patchCases() []testCase {
	merged := plain("patch-merge")
	merged.Tags = raw(`{"keep":1,"at":{"floor":3,"room":{"no":7}},"list":[1,{"a":2}]}`)
	deleting := plain("patch-null")
	deleting.Desired = raw(`{"gone":1,"deep":{"only":1},"rate":10}`)
	return []testCase{
		{"patch/merges and keeps the rest", []Device{merged}, (*probe).patchMerges},
		{"patch/null deletes", []Device{deleting}, (*probe).patchNulls},
		{"patch/the right etag is accepted once", []Device{plain("patch-etag")}, (*probe).patchETag},
		{"patch/a stale etag is refused without effect", []Device{plain("patch-stale")}, (*probe).patchStale},
		{"patch/any etag is accepted always", []Device{plain("patch-any")}, (*probe).patchAny},
		{"patch/the etag covers tags and desired", []Device{plain("patch-cover")}, (*probe).patchCover},
		{"patch/$version counts the writes of its section", []Device{plain("patch-version")}, (*probe).patchVersion},
		{"patch/values come back as they were sent", []Device{plain("patch-values")}, (*probe).patchValues},
		{"patch/what breaks the rules is refused without effect", []Device{plain("patch-refused")}, (*probe).patchRefused},
		{"patch/what keeps just within the rules is accepted", []Device{plain("patch-limits")}, (*probe).patchLimits},
	}
}

func (p *probe) patchMerges() {
	at := target("patch-merge")
	before := p.twin(at)
	answer := p.patch(at, hub.Patch{Tags: raw(`{"new":"x","at":{"room":{"name":"lab"}},"list":[3]}`)})
	after := p.twin(at)
	p.wantSection("tags", after.Tags, `{"keep":1,"new":"x","at":{"floor":3,"room":{"no":7,"name":"lab"}},"list":[3]}`)
	p.wantSection("desired", after.Desired, `{"rate":10}`)
	if answer.ETag != after.ETag || answer.Version != after.Version {
		p.t.Errorf("the patch answered etag %q version %d, the twin has %q %d", answer.ETag, answer.Version, after.ETag, after.Version)
	}
	if after.ETag == before.ETag || after.Version <= before.Version {
		p.t.Errorf("etag %q version %d became %q %d", before.ETag, before.Version, after.ETag, after.Version)
	}
	p.patch(at, hub.Patch{Tags: raw(`{"keep":{"now":"object"},"at":"text"}`)})
	p.wantSection("tags of other types", p.twin(at).Tags, `{"keep":{"now":"object"},"new":"x","at":"text","list":[3]}`)
}

func (p *probe) patchNulls() {
	at := target("patch-null")
	p.patch(at, hub.Patch{Tags: raw(`{"site":null,"never":null}`), Desired: raw(`{"gone":null,"deep":{"only":null}}`)})
	after := p.twin(at)
	p.wantSection("tags", after.Tags, `{}`)
	p.wantSection("desired", after.Desired, `{"deep":{},"rate":10}`)
}

func (p *probe) patchETag() {
	at := target("patch-etag")
	before := p.twin(at)
	if _, err := p.hub.PatchTwin(p.t.Context(), at, hub.Patch{Tags: raw(`{"n":1}`)}, before.ETag); err != nil {
		p.t.Fatalf("patch with the twin's etag: %v", err)
	}
	_, err := p.hub.PatchTwin(p.t.Context(), at, hub.Patch{Tags: raw(`{"n":2}`)}, before.ETag)
	p.wantError("the same etag again", err, hub.KindPrecondition, 412001)
	p.wantSection("tags", p.twin(at).Tags, `{"site":"oslo","n":1}`)
}

func (p *probe) patchStale() {
	at := target("patch-stale")
	stale := p.twin(at).ETag
	changed := p.patch(at, hub.Patch{Desired: raw(`{"rate":11}`)})
	_, err := p.hub.PatchTwin(p.t.Context(), at, hub.Patch{Tags: raw(`{"n":2}`), Desired: raw(`{"rate":12}`)}, stale)
	p.wantError("a stale etag", err, hub.KindPrecondition, 412001)
	after := p.twin(at)
	p.wantSection("tags", after.Tags, `{"site":"oslo"}`)
	p.wantSection("desired", after.Desired, `{"rate":11}`)
	if after.ETag != changed.ETag {
		p.t.Errorf("a refused patch moved the etag from %q to %q", changed.ETag, after.ETag)
	}
}

func (p *probe) patchAny() {
	at := target("patch-any")
	p.patch(at, hub.Patch{Tags: raw(`{"n":1}`)})
	p.patch(at, hub.Patch{Tags: raw(`{"n":2}`)})
	p.wantSection("tags", p.twin(at).Tags, `{"site":"oslo","n":2}`)
}

func (p *probe) patchCover() {
	at := target("patch-cover")
	first := p.twin(at).ETag
	second := p.patch(at, hub.Patch{Tags: raw(`{"n":1}`)}).ETag
	third := p.patch(at, hub.Patch{Desired: raw(`{"n":1}`)}).ETag
	if first == second || second == third || first == third {
		p.t.Errorf("etags are %q, after tags %q, after desired %q: want three", first, second, third)
	}
}

func (p *probe) patchVersion() {
	at := target("patch-version")
	before := p.sectionVersion(p.twin(at).Desired)
	p.patch(at, hub.Patch{Tags: raw(`{"n":1}`)})
	if got := p.sectionVersion(p.twin(at).Desired); got != before {
		p.t.Errorf("a patch of tags moved $version of desired from %d to %d", before, got)
	}
	p.patch(at, hub.Patch{Desired: raw(`{"rate":11}`)})
	after := p.twin(at)
	if got := p.sectionVersion(after.Desired); got != before+1 {
		p.t.Errorf("$version of desired is %d after one write, was %d", got, before)
	}
	if got := strings.Contains(string(after.Desired), "$lastUpdated"); !got {
		p.t.Errorf("desired %s has no $lastUpdated", after.Desired)
	}
}

func (p *probe) patchValues() {
	at := target("patch-values")
	const values = `{"s":"","u":"é 😀 \" \\ \n","zero":0,"neg":-1.5,"min":-4503599627370496,"max":4503599627370495,` +
		`"t":true,"f":false,"o":{},"l":[],"nested":[[1],{"a":[true]}]}`
	p.patch(at, hub.Patch{Tags: raw(`{"site":null,"v":` + values + `}`), Desired: raw(`{"rate":null,"v":` + values + `}`)})
	after := p.twin(at)
	p.wantSection("tags", after.Tags, `{"v":`+values+`}`)
	p.wantSection("desired", after.Desired, `{"v":`+values+`}`)
}

// nest returns a section with objects inside each other, the innermost at the
// level; the section itself is at level 0.
func nest(level int) string {
	return strings.Repeat(`{"k":`, level+1) + "1" + strings.Repeat("}", level+1)
}

// filled returns an object of about size bytes, in strings of 1 KB.
func filled(size int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range size / 1024 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k` + string(rune('A'+i%26)) + string(rune('a'+i/26)) + `":"` + strings.Repeat("x", 1021) + `"`)
	}
	b.WriteByte('}')
	return b.String()
}

func (p *probe) patchRefused() {
	at := target("patch-refused")
	before := p.twin(at)
	for _, tt := range []struct{ what, section string }{
		{"key with a dot", `{"a.b":1}`},
		{"key with a dollar", `{"$a":1}`},
		{"key with a hash", `{"a#b":1}`},
		{"key with a space", `{"a b":1}`},
		{"key with a control character", `{"a\u0001":1}`},
		{"key deep inside", `{"a":{"b":{"c.d":1}}}`},
		{"key above 1 KB", `{"` + strings.Repeat("k", 1025) + `":1}`},
		{"string above 4 KB", `{"a":"` + strings.Repeat("x", 4097) + `"}`},
		{"integer too large", `{"a":4503599627370496}`},
		{"integer too small", `{"a":-4503599627370497}`},
		{"null in an array", `{"a":[1,null]}`},
		{"null in an object in an array", `{"a":[{"b":null}]}`},
		{"an object at level 11", nest(11)},
		{"an array as section", `[1]`},
		{"a string as section", `"x"`},
	} {
		_, err := p.hub.PatchTwin(p.t.Context(), at, hub.Patch{Desired: raw(tt.section)}, hub.AnyETag)
		p.wantError("desired with "+tt.what, err, hub.KindInvalid, 0)
		_, err = p.hub.PatchTwin(p.t.Context(), at, hub.Patch{Tags: raw(tt.section)}, hub.AnyETag)
		p.wantError("tags with "+tt.what, err, hub.KindInvalid, 0)
	}
	_, err := p.hub.PatchTwin(p.t.Context(), at, hub.Patch{Tags: raw(filled(9 << 10))}, hub.AnyETag)
	p.wantError("tags above 8 KB", err, hub.KindForbidden, 0)
	_, err = p.hub.PatchTwin(p.t.Context(), at, hub.Patch{Desired: raw(filled(33 << 10))}, hub.AnyETag)
	p.wantError("desired above 32 KB", err, hub.KindForbidden, 0)
	_, err = p.hub.PatchTwin(p.t.Context(), at, hub.Patch{Tags: raw(`{"ok":1}`), Desired: raw(`{"a.b":1}`)}, hub.AnyETag)
	p.wantError("one bad section of two", err, hub.KindInvalid, 0)
	after := p.twin(at)
	if after.ETag != before.ETag || after.Version != before.Version {
		p.t.Errorf("refused patches moved the twin from %q %d to %q %d", before.ETag, before.Version, after.ETag, after.Version)
	}
	p.wantSection("tags", after.Tags, `{"site":"oslo"}`)
}

func (p *probe) patchLimits() {
	at := target("patch-limits")
	for _, tt := range []struct {
		what  string
		patch hub.Patch
	}{
		{"an object at level 10", hub.Patch{Desired: raw(nest(10))}},
		{"a key of 1 KB", hub.Patch{Tags: raw(`{"` + strings.Repeat("k", 1000) + `":1}`)}},
		{"its deletion", hub.Patch{Tags: raw(`{"` + strings.Repeat("k", 1000) + `":null}`)}},
		{"a string of 4 KB", hub.Patch{Tags: raw(`{"a":"` + strings.Repeat("x", 4096) + `"}`)}},
		{"its deletion", hub.Patch{Tags: raw(`{"a":null}`)}},
		{"tags of 7 KB", hub.Patch{Tags: raw(filled(7 << 10))}},
		{"desired of 31 KB", hub.Patch{Desired: raw(filled(31 << 10))}},
		{"odd keys", hub.Patch{Tags: raw(`{"a-b":1,"é":2,"1":3,"@":4,"*":5}`)}},
	} {
		if _, err := p.hub.PatchTwin(p.t.Context(), at, tt.patch, hub.AnyETag); err != nil {
			p.t.Errorf("%s: %v", tt.what, err)
		}
	}
}

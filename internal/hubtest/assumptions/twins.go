package main

import (
	"fmt"
	"strings"
)

func twinAssumptions() []Assumption {
	return append(writeAssumptions(), limitAssumptions()...)
}

func writeAssumptions() []Assumption {
	return []Assumption{
		{
			ID: "A010", Says: "A patch that changes nothing raises etag and version all the same", Source: "unconfirmed", Expect: "bump",
			Switch: "noopPatch", Values: map[string]string{"bump": "bump", "keep": "keep"}, observe: func(p *probe) string {
				d := p.register()
				patch := `{"properties":{"desired":{"a":1}}}`
				first, second := p.must("PATCH", d.twin(), patch).Doc(), p.must("PATCH", d.twin(), patch).Doc()
				return either(at(first, "properties", "desired", "$version") == at(second, "properties", "desired", "$version"), "keep", "bump")
			},
		},
		{
			ID: "A011", Says: "A section that is null as a whole is ignored by PATCH", Source: "unconfirmed", Expect: "ignored",
			Switch: "nullSection", Values: map[string]string{"ignore": "ignored", "clear": "cleared"}, observe: func(p *probe) string {
				d := p.register()
				p.must("PATCH", d.twin(), `{"tags":{"a":1}}`)
				return either(at(p.must("PATCH", d.twin(), `{"tags":null}`).Doc(), "tags", "a") == "1", "ignored", "cleared")
			},
		},
		{
			ID: "A012", Says: "PUT of a twin keeps a section that the body does not mention", Source: "unconfirmed", Expect: "kept",
			Switch: "putMissingSection", Values: map[string]string{"keep": "kept", "clear": "cleared"}, observe: func(p *probe) string {
				d := p.register()
				p.must("PATCH", d.twin(), `{"properties":{"desired":{"a":1}}}`)
				return either(at(p.must("PUT", d.twin(), `{"tags":{"b":2}}`).Doc(), "properties", "desired", "a") == "1", "kept", "cleared")
			},
		},
		{ID: "A013", Says: "An If-Match without quotes is ignored, and the write succeeds", Source: "issue 606 of the Node SDK", Expect: "200", observe: func(p *probe) string {
			return fmt.Sprint(p.try("PATCH", p.register().twin(), `{"tags":{"a":1}}`, "If-Match", "AAAAAAAAAAA=").Status)
		}},
		{ID: "A014", Says: "If-Match * is taken with and without quotes", Source: "Node and C# clients quote it, the Go client does not", Expect: "200 200", observe: func(p *probe) string {
			d := p.register()
			return fmt.Sprint(p.try("PATCH", d.twin(), `{"tags":{"a":1}}`, "If-Match", `"*"`).Status, p.try("PATCH", d.twin(), `{"tags":{"a":2}}`, "If-Match", "*").Status)
		}},
		{ID: "A015", Says: "PATCH with a stale etag is refused and changes nothing", Source: "RFC 7232; captures", Expect: "412 PreconditionFailed, unchanged", observe: func(p *probe) string {
			d := p.register()
			a := p.try("PATCH", d.twin(), `{"tags":{"a":1}}`, "If-Match", `"AAAAAAAAAAA="`)
			return named(a) + either(at(p.must("GET", d.twin(), "").Doc(), "tags", "a") == "", ", unchanged", ", changed")
		}},
		{ID: "A016", Says: "PATCH ignores members of a twin that services cannot write", Source: "unconfirmed; an old az client sent whole twins", Expect: "200", observe: func(p *probe) string {
			d := p.register()
			return fmt.Sprint(p.try("PATCH", d.twin(), `{"deviceId":"other","version":77,"status":"disabled","properties":{"reported":{"x":1}},"tags":{"a":1}}`).Status)
		}},
	}
}

// limitAssumptions are about what a section can hold, and what goes with it.
func limitAssumptions() []Assumption {
	return []Assumption{
		{ID: "A017", Says: "Deleting the last member of an object leaves an empty object", Source: "end-to-end tests of the C# client", Expect: "{}", observe: func(p *probe) string {
			d := p.register()
			p.must("PATCH", d.twin(), `{"tags":{"a":{"b":1}}}`)
			return at(p.must("PATCH", d.twin(), `{"tags":{"a":{"b":null}}}`).Doc(), "tags", "a")
		}},
		{ID: "A018", Says: "A null inside an array is refused", Source: "Edge hub's constants", Expect: "400 ArgumentInvalid", observe: refusedDesired(`{"a":[1,null]}`)},
		{ID: "A019", Says: "A key with # is refused", Source: "Edge hub's constants; the documents do not name it", Expect: "400 ArgumentInvalid", observe: refusedDesired(`{"a#b":1}`)},
		{ID: "A020", Says: "An integer of 2 to the power of 52 is refused", Source: "Edge hub's constants", Expect: "400 ArgumentInvalid", observe: refusedDesired(`{"a":4503599627370496}`)},
		{ID: "A021", Says: "Ten levels of objects below a section are taken, eleven refused", Source: "documents; where the count begins is inferred", Expect: "200, then 400 ArgumentInvalid", observe: func(p *probe) string {
			nested := func(levels int) string {
				return strings.Repeat(`{"a":`, levels) + `{"z":1}` + strings.Repeat("}", levels)
			}
			return refusedDesired(nested(10))(p) + ", then " + refusedDesired(nested(11))(p)
		}},
		{ID: "A022", Says: "Metadata of desired has $lastUpdatedVersion, that of reported has not", Source: "issues 30479 and 22362 of the documents", Expect: "desired: 2, reported: none", observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d, twinAnswers+"#")
			c.send(twinReport+"?$rid=1", `{"r":1}`, 0)
			c.next()
			p.must("PATCH", d.twin(), `{"properties":{"desired":{"a":1}}}`)
			props := p.must("GET", d.twin(), "").Doc()["properties"]
			seen := func(section, key string) string {
				if v := at(props, section, "$metadata", key, "$lastUpdatedVersion"); v != "" {
					return v
				}
				return "none"
			}
			return "desired: " + seen("desired", "a") + ", reported: " + seen("reported", "r")
		}},
		{ID: "A023", Says: "What a device reports leaves the twin's etag alone", Source: "inferred: the etag covers what services write", Expect: "same", observe: func(p *probe) string {
			d := p.register()
			before := at(p.must("GET", d.twin(), "").Doc(), "etag")
			c := p.connect(d, twinAnswers+"#")
			c.send(twinReport+"?$rid=1", `{"r":1}`, 0)
			c.next()
			doc := p.must("GET", d.twin(), "").Doc()
			if at(doc, "properties", "reported", "r") != "1" {
				return "nothing was reported"
			}
			return either(at(doc, "etag") == before, "same", "other")
		}},
	}
}

// refusedDesired is the answer to a patch of desired properties.
func refusedDesired(desired string) func(*probe) string {
	return func(p *probe) string {
		return named(p.try("PATCH", p.register().twin(), `{"properties":{"desired":`+desired+`}}`))
	}
}

package main

import (
	"fmt"
	"strings"
)

// module is the path of a module of a device.
func (d identity) module(id string) string { return d.device() + "/modules/" + id }

func registryAssumptions() []Assumption {
	return []Assumption{
		{ID: "A001", Says: "A device that was just registered has version 1 of both sections, and the etag AAAAAAAAAAE=", Source: "sample in the registry's documentation", Expect: "1 1 AAAAAAAAAAE=", observe: func(p *probe) string {
			doc := p.must("GET", p.register().twin(), "").Doc()
			return strings.Join([]string{at(doc, "properties", "desired", "$version"), at(doc, "properties", "reported", "$version"), at(doc, "etag")}, " ")
		}},
		{
			ID: "A002", Says: "The ETag header of a twin has quotes", Source: "HTTP demands them; no capture shows the header", Expect: "quoted",
			Switch: "etagHeader", Values: map[string]string{"quoted": "quoted", "bare": "bare", "none": "none"}, observe: observeETagHeader,
		},
		{
			ID: "A003", Says: "PUT of a new module answers 200", Source: "the swagger has 200 and 201; the Go client takes 200 alone", Expect: "200",
			Switch: "moduleCreated", Values: map[string]string{"200": "200", "201": "201"}, observe: func(p *probe) string {
				return fmt.Sprint(p.must("PUT", p.register().module("m"), "{}").Status)
			},
		},
		{
			ID: "A004", Says: "The errors of a bulk call have numbers", Source: "import logs and what clients decode; the swagger says names", Expect: "number",
			Switch: "bulkErrorCode", Values: map[string]string{"number": "number", "name": "name"}, observe: observeBulkError,
		},
		{ID: "A005", Says: "A bulk call of which one device is refused does the others, and answers 400", Source: "swagger; C# client", Expect: "400, the other is there", observe: func(p *probe) string {
			old, fresh := p.register(), identity{id: p.newID()}
			a := p.try("POST", "/devices", `[{"id":"`+old.id+`","importMode":"create"},{"id":"`+fresh.id+`","importMode":"create"}]`)
			there := p.try("DELETE", fresh.device(), "", "If-Match", `"*"`)
			return fmt.Sprintf("%d, the other is %s", a.Status, either(there.Status == 204, "there", "not there"))
		}},
		{ID: "A006", Says: "DELETE of a device without If-Match deletes it", Source: "unconfirmed: every client sends the header", Expect: "204", observe: func(p *probe) string {
			return fmt.Sprint(p.try("DELETE", p.register().device(), "").Status)
		}},
		{ID: "A007", Says: "PUT of a device with If-Match, when there is none, is refused as not found", Source: "C# client", Expect: "404 DeviceNotFound", observe: func(p *probe) string {
			return named(p.try("PUT", identity{id: p.newID()}.device(), "{}", "If-Match", `"*"`))
		}},
		{ID: "A008", Says: "An api-version that the hub does not know is refused", Source: "error list", Expect: "400 InvalidProtocolVersion", observe: func(p *probe) string {
			return named(p.try("GET", p.register().device()+"?api-version=1999-01-01", ""))
		}},
	}
}

func observeETagHeader(p *probe) string {
	header := p.must("GET", p.register().twin(), "").Header.Get("ETag")
	switch {
	case header == "":
		return "none"
	case strings.HasPrefix(header, `"`) || strings.HasPrefix(header, `W/"`):
		return "quoted"
	}
	return "bare"
}

func observeBulkError(p *probe) string {
	a := p.try("POST", "/devices", `[{"id":"`+p.register().id+`","importMode":"create"}]`)
	list, _ := a.Doc()["errors"].([]any)
	if len(list) == 0 {
		return "no errors: " + string(a.Body)
	}
	entry, _ := list[0].(map[string]any)
	switch code := entry["errorCode"].(type) {
	case float64:
		return "number"
	case string:
		return "name"
	default:
		return fmt.Sprintf("%T", code)
	}
}

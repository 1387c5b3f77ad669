package emulator

import (
	"iothub-runner/internal/twinquery"
)

// twinDoc is a twin as a query looks at it. Nothing is made before a path asks
// for it: most queries look at one tag, or at the id alone.
type twinDoc struct {
	server  *Server
	subject subject
	filled  bool
	twin    twin
	whole   string // the whole document; empty until somebody asks for it
}

// Lookup returns the value at a path, as [twinquery.Doc] says.
func (d *twinDoc) Lookup(path []string) twinquery.Value {
	if len(path) == 0 {
		return twinquery.JSONValue(d.document())
	}
	switch path[0] {
	case "deviceId":
		if len(path) == 1 {
			return twinquery.StringValue(d.subject.id)
		}
		return twinquery.Value{}
	case "tags":
		return lookupRaw(d.sections().tags.raw, path[1:])
	case "properties":
		if len(path) > 2 && path[2] != "$metadata" {
			return d.property(path[1:])
		}
	}
	return twinquery.LookupJSON(d.document(), path)
}

// property looks up what lies below properties.desired or reported.
func (d *twinDoc) property(path []string) twinquery.Value {
	var s *section
	switch path[0] {
	case "desired":
		s = &d.sections().desired
	case "reported":
		s = &d.sections().reported
	default:
		return twinquery.Value{}
	}
	if path[1] == "$version" {
		return twinquery.NumberValue(float64(s.version))
	}
	return lookupRaw(s.raw, path[1:])
}

func lookupRaw(raw string, path []string) twinquery.Value {
	if raw == "" {
		return twinquery.Value{}
	}
	return twinquery.LookupJSON(raw, path)
}

func (d *twinDoc) sections() *twin {
	if !d.filled {
		d.twin, d.filled = d.server.store.twin(d.subject), true
	}
	return &d.twin
}

func (d *twinDoc) document() string {
	if d.whole == "" {
		d.whole = string(d.server.appendTwin(nil, d.subject))
	}
	return d.whole
}

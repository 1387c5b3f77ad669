package core

import (
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
	"iothub-runner/internal/twinquery"
)

// TwinDoc is a twin as a query looks at it. Nothing is made before a path asks
// for it: most queries look at one tag, or at the id alone.
type TwinDoc struct {
	Hub     *Hub
	Subject store.Subject
	filled  bool
	twin    twindoc.Twin
	whole   string // the whole document; empty until somebody asks for it
}

// Lookup returns the value at a path, as [twinquery.Doc] says.
func (d *TwinDoc) Lookup(path []string) twinquery.Value {
	if len(path) == 0 {
		return twinquery.JSONValue(d.document())
	}
	switch path[0] {
	case "deviceId":
		if len(path) == 1 {
			return twinquery.StringValue(d.Subject.ID)
		}
		return twinquery.Value{}
	case "tags":
		return lookupRaw(d.sections().Tags.Raw, path[1:])
	case "properties":
		if len(path) > 2 && path[2] != "$metadata" {
			return d.property(path[1:])
		}
	}
	return twinquery.LookupJSON(d.document(), path)
}

// property looks up what lies below properties.desired or reported.
func (d *TwinDoc) property(path []string) twinquery.Value {
	var s *twindoc.Section
	switch path[0] {
	case "desired":
		s = &d.sections().Desired
	case "reported":
		s = &d.sections().Reported
	default:
		return twinquery.Value{}
	}
	if path[1] == "$version" {
		return twinquery.NumberValue(float64(s.Version))
	}
	return lookupRaw(s.Raw, path[1:])
}

func lookupRaw(raw string, path []string) twinquery.Value {
	if raw == "" {
		return twinquery.Value{}
	}
	return twinquery.LookupJSON(raw, path)
}

func (d *TwinDoc) sections() *twindoc.Twin {
	if !d.filled {
		d.twin, d.filled = d.Hub.Store.Twin(d.Subject), true
	}
	return &d.twin
}

func (d *TwinDoc) document() string {
	if d.whole == "" {
		d.whole = string(d.Hub.AppendTwin(nil, d.Subject))
	}
	return d.whole
}

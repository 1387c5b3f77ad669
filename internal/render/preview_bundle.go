package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/preview"
)

// fewGroups is how many groups of a job that change the same properties are
// shown one by one.
const fewGroups = 5

// bundle is what a preview shows of a job at a time: one group, or all groups
// that change the same properties. A job that fills in values of devices makes a
// group for each of them, and nobody reads five hundred that differ in a name.
type bundle struct {
	count     int
	devices   []string // the first of them
	unchanged bool
	errors    values
	call      *preview.CallForecast // the first device's
	parts     []span
	groups    int
	various   bool // the devices get values of their own
}

// span is a property with the values that the devices of a bundle have and get.
type span struct {
	path          string
	before, after values
}

// values are the different ones of many devices, those of most devices first.
type values struct {
	list   []string
	others bool // there are some that the forecast does not hold
}

// bundles puts the groups of a job together, in the order of their first ones.
func bundles(groups []preview.Group) []bundle {
	alike := map[string]int{}
	shapes := make([]string, len(groups))
	for i := range groups {
		shapes[i] = shape(&groups[i])
		alike[shapes[i]]++
	}
	var all []bundle
	places := map[string]int{}
	for i := range groups {
		place, open := places[shapes[i]]
		if !open {
			place = len(all)
			all = append(all, bundle{})
		}
		if alike[shapes[i]] > fewGroups {
			places[shapes[i]] = place
		}
		all[place].add(&groups[i])
	}
	return all
}

// shape is what a group does, less the values.
func shape(g *preview.Group) string {
	var b strings.Builder
	switch {
	case g.Error != "":
		return "error"
	case g.Unchanged:
		return "unchanged"
	case g.Call != nil:
		b.WriteString("call " + g.Call.MethodName)
	}
	for _, c := range parts(g) {
		b.WriteString("\n" + c.path)
	}
	return b.String()
}

// parts lists what a group sends, each property or part of a payload by itself.
func parts(g *preview.Group) []change {
	if g.Call == nil {
		return changes(g)
	}
	return appendParts(nil, "payload", gjson.ParseBytes(g.Call.Payload))
}

func appendParts(all []change, path string, value gjson.Result) []change {
	if !value.IsObject() || value.Raw == "{}" {
		return append(all, change{path: path, after: plainJSON(value.Raw)})
	}
	value.ForEach(func(key, value gjson.Result) bool {
		all = appendParts(all, path+"."+key.Str, value)
		return true
	})
	return all
}

func (b *bundle) add(g *preview.Group) {
	if b.groups++; b.groups == 1 {
		b.call, b.unchanged = g.Call, g.Unchanged
	}
	b.count += g.Count
	b.devices = append(b.devices, g.Devices[:min(len(g.Devices), max(textDevices-len(b.devices), 0))]...)
	if g.Error != "" {
		b.errors.add(g.Error, g.Various)
		return
	}
	for i, c := range parts(g) {
		if i == len(b.parts) {
			b.parts = append(b.parts, span{path: c.path})
		}
		b.parts[i].before.add(c.before, varies(g, "before."+c.path))
		b.parts[i].after.add(c.after, varies(g, "patch."+c.path) || varies(g, "call."+c.path))
		b.various = b.various || g.Various || b.groups > 1
	}
}

// varies tells whether a group stands for devices with other values of a part.
func varies(g *preview.Group, path string) bool {
	return slices.ContainsFunc(g.Varies, func(v string) bool {
		return v == path || strings.HasPrefix(path, v+".") || strings.HasPrefix(v, path+".")
	})
}

func (v *values) add(value string, others bool) {
	v.others = v.others || others
	if !slices.Contains(v.list, value) {
		v.list = append(v.list, value)
	}
}

// fewValues is how many values of a property are shown.
const fewValues = 3

// text writes the values, each as show does.
func (v *values) text(show func(string) string) string {
	n := min(len(v.list), fewValues)
	shown := make([]string, n)
	for i, value := range v.list[:n] {
		shown[i] = show(value)
	}
	text := strings.Join(shown, ", ")
	switch left := len(v.list) - n; {
	case v.others:
		return text + " and others"
	case left > 0:
		return text + fmt.Sprintf(" and %d more", left)
	}
	return text
}

package planfile

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// wrongType reports a value of the wrong kind, with an example of a right one.
func (p *parser) wrongType(place string, n *yaml.Node, want string) {
	name, hint := "the plan", `it starts with "version: 1"`
	if place != "" {
		f, _ := p.table.Field(place)
		name, hint = label(place), "for example "+f.Key()+": "+f.Example
		if name == "a job" {
			hint = `start each job with "- name: ..."`
		}
	}
	p.at(n, spec.RuleType, fmt.Sprintf("%s must be %s, not %s", name, want, describe(p.resolve(n))), hint)
}

// label is how messages call the field at a place.
func label(place string) string {
	if list, _, ok := strings.Cut(place, "["); ok && strings.HasSuffix(place, "]") && strings.Count(place, "[") == 1 {
		return object{place: list + "[]"}.what()
	}
	step := place[strings.LastIndexByte(place, '.')+1:]
	if name, _, ok := strings.Cut(step, "["); ok {
		return "an element of " + name
	}
	return step
}

// describe says what a value is, for "must be a string, not ...".
func describe(n *yaml.Node) string {
	n = deref(n)
	switch n.Kind { //nolint:exhaustive // documents and aliases do not reach this
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "empty"
	case "!!str":
		return fmt.Sprintf("the text %q", spec.Clip(n.Value))
	case "!!int", "!!float":
		return "the number " + spec.Clip(n.Value)
	case "!!bool":
		return n.Value
	case "!!timestamp":
		return "the date " + spec.Clip(n.Value)
	}
	return "a value tagged " + spec.Clip(n.Tag)
}

// scalar returns the value under a key if it has one of the tags.
func (p *parser) scalar(o object, key, want string, tags ...string) (*yaml.Node, bool) {
	n := o.value(key)
	if n == nil {
		return nil, false
	}
	return p.scalarNode(o.child(key), n, want, tags...)
}

func (p *parser) scalarNode(place string, n *yaml.Node, want string, tags ...string) (*yaml.Node, bool) {
	switch v := p.resolve(n); {
	case v.Kind == 0: // a finding says why it has no value
		return nil, false
	case v.Kind == yaml.ScalarNode && slices.Contains(tags, v.Tag):
		return v, true
	}
	p.wrongType(place, n, want)
	return nil, false
}

func (p *parser) text(o object, key string) *string {
	n := o.value(key)
	if n == nil {
		return nil
	}
	return p.textNode(o.child(key), n)
}

func (p *parser) textNode(place string, n *yaml.Node) *string {
	if v := p.resolve(n); v.Kind == yaml.ScalarNode && v.Tag != "!!str" && v.Tag != "!!null" && v.Style&yaml.TaggedStyle == 0 {
		hint := fmt.Sprintf("put it in quotes: %q", spec.Clip(v.Value))
		if f, _ := p.table.Field(place); len(f.Values) > 0 {
			hint = "it may be " + spec.Join(f.Values, "or")
		}
		p.at(n, spec.RuleType, fmt.Sprintf("%s must be text, but YAML reads %s here", label(place), describe(v)), hint)
		return nil
	}
	v, ok := p.scalarNode(place, n, "text", "!!str")
	if !ok {
		return nil
	}
	return &v.Value
}

// texts reads a list of texts. An element that is wrong stays as "", so that
// the others keep their places.
func (p *parser) texts(o object, key string) []string {
	n := o.value(key)
	if n == nil {
		return nil
	}
	list := deref(n)
	if list.Kind != yaml.SequenceNode {
		p.wrongType(o.child(key), n, "a list")
		return nil
	}
	if len(list.Content) == 0 {
		p.at(n, spec.RuleValue, key+" is an empty list", "leave it out, or list at least one")
	}
	words := make([]string, len(list.Content))
	for i, e := range list.Content {
		if t := p.textNode(fmt.Sprintf("%s[%d]", o.child(key), i), e); t != nil {
			words[i] = *t
		}
	}
	return words
}

func (p *parser) boolean(o object, key string) *bool {
	v, ok := p.scalar(o, key, "true or false", "!!bool")
	if !ok {
		return nil
	}
	b := strings.EqualFold(v.Value, "true")
	return &b
}

func (p *parser) integer(o object, key string) *int {
	if n := o.value(key); n != nil && p.resolve(n).Tag == "!!float" && decimal(p.resolve(n).Value) {
		p.at(n, spec.RuleRange, fmt.Sprintf("%s is %s", key, spec.Clip(p.resolve(n).Value)), "that is more than this program can count to")
		return nil
	}
	v, ok := p.scalar(o, key, "a whole number", "!!int")
	if !ok {
		return nil
	}
	i, err := strconv.Atoi(v.Value)
	if err != nil || !decimal(v.Value) {
		p.at(o.value(key), spec.RuleNumber, fmt.Sprintf("%s is %s, which is not a plain decimal number", key, spec.Clip(v.Value)), "write it in decimal, without leading zeros or underscores")
		return nil
	}
	return &i
}

// number reads a number that need not be whole.
func (p *parser) number(o object, key string) *float64 {
	v, ok := p.scalar(o, key, "a number", "!!int", "!!float")
	if !ok {
		return nil
	}
	f, err := strconv.ParseFloat(v.Value, 64)
	if err != nil || strings.Trim(v.Value, "0123456789.-") != "" {
		p.at(o.value(key), spec.RuleNumber, fmt.Sprintf("%s is %s, which is not a plain decimal number", key, spec.Clip(v.Value)), "write it in decimal, as in 1.5")
		return nil
	}
	return &f
}

// decimal tells whether an integer is written so that every YAML reader sees
// the same number.
func decimal(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(digits) > 1 && digits[0] == '0' {
		return false
	}
	return strings.Trim(digits, "0123456789") == ""
}

func (p *parser) duration(o object, key string) *time.Duration {
	if v := o.value(key); v != nil && p.resolve(v).Tag == "!!int" {
		n := spec.Clip(p.resolve(v).Value)
		p.at(v, spec.RuleValue, fmt.Sprintf("%s is %s, without a unit", key, n), fmt.Sprintf("write %ss, %sm or %sh", n, n, n))
		return nil
	}
	v, ok := p.scalar(o, key, "a duration", "!!str")
	if !ok {
		return nil
	}
	d, err := parseDuration(v.Value)
	if err != nil {
		hint := "write a number and a unit, as in 500ms, 10s, 15m, 1h30m or 2d"
		if f, _ := p.table.Field(o.child(key)); len(f.Values) > 0 {
			hint += ", or " + spec.Join(f.Values, "or")
		}
		p.at(o.value(key), spec.RuleValue, fmt.Sprintf("%s %q %s", key, spec.Clip(v.Value), err), hint)
		return nil
	}
	return &d
}

var (
	errNoDuration  = errors.New("is not a duration")
	errTooLong     = errors.New("is too long")
	errNoRate      = errors.New("is not a rate")
	errNoStatus    = errors.New("is not a status")
	errStatusRange = errors.New("is out of range")
	errFalling     = errors.New("falls")
)

// parseDuration reads Go's durations, with days in front: "1d12h".
func parseDuration(s string) (time.Duration, error) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		return goDuration(s)
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || strings.Trim(days, "0123456789.-") != "" {
		return 0, errNoDuration
	}
	if math.Abs(n) > 100_000 { // a Duration ends at 106,751 days
		return 0, errTooLong
	}
	d := time.Duration(n * float64(24*time.Hour))
	if rest == "" {
		return d, nil
	}
	more, err := goDuration(rest)
	if err != nil || more < 0 || d < 0 {
		return 0, errNoDuration
	}
	if more > 6000*24*time.Hour {
		return 0, errTooLong
	}
	return d + more, nil
}

func goDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errNoDuration
	}
	return d, nil
}

func (p *parser) rate(o object, key string) *float64 {
	v, ok := p.scalar(o, key, "a rate", "!!str", "!!int", "!!float")
	if !ok {
		return nil
	}
	r, err := ParseRate(v.Value)
	if err != nil {
		p.at(o.value(key), spec.RuleValue, fmt.Sprintf("%s %q %s", key, spec.Clip(v.Value), err), "write a number per second, minute or hour, as in 40/s, 300/m or 10/h")
		return nil
	}
	return &r
}

// ParseRate reads "40/s", "300/m" or "10/h" as attempts a second.
func ParseRate(s string) (float64, error) {
	number, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.Trim(number, "0123456789.") != "" {
		return 0, errNoRate
	}
	switch unit {
	case "s":
		return n, nil
	case "m":
		return n / 60, nil
	case "h":
		return n / 3600, nil
	}
	return 0, errNoRate
}

// timeShape is the form of RFC 3339, of which the seconds and the offset may be
// left out. The time package is more lenient: it takes an offset of +24:00, an
// hour of one digit and a comma before the fraction.
var timeShape = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[-+]([01]\d|2[0-3]):[0-5]\d)?$`)

// time reads a time with an offset, or one of a time zone.
func (p *parser) time(o object, key string, zone *string) *time.Time {
	v, ok := p.scalar(o, key, "a time", "!!str", "!!timestamp")
	if !ok {
		return nil
	}
	shape := timeShape.FindStringSubmatch(v.Value)
	if shape == nil {
		p.at(o.value(key), spec.RuleValue, fmt.Sprintf("%s %q is not a time with its date", key, spec.Clip(v.Value)), timeHint)
		return nil
	}
	layout := "2006-01-02T15:04"
	if shape[1] != "" {
		layout += ":05"
	}
	offset := shape[3] != ""
	if offset {
		layout += "Z07:00"
	}
	t, err := time.Parse(layout, v.Value)
	switch {
	case err != nil:
		p.at(o.value(key), spec.RuleValue, fmt.Sprintf("%s %q is not a time that there is", key, spec.Clip(v.Value)), timeHint)
		return nil
	case offset && zone != nil && o.has("timezone") && !o.has("window"):
		p.at(o.value("timezone"), spec.RuleExclusive, key+" has an offset, so timezone says nothing", "remove one of them")
	case !offset:
		return p.localTime(o, key, t, zone)
	}
	return &t
}

const timeHint = "write it as 2026-12-01T02:00:00Z, as 2026-12-01T03:00:00+01:00, or as 2026-12-01T03:00 with timezone: Europe/Paris"

// localTime reads a time of a time zone.
func (p *parser) localTime(o object, key string, t time.Time, zone *string) *time.Time {
	if zone == nil {
		zone = p.timezone
	}
	n := o.value(key)
	if zone == nil {
		p.at(n, spec.RuleValue, fmt.Sprintf("%s %q has no time zone", key, p.resolve(n).Value), timeHint)
		return nil
	}
	if !validTimezone(*zone) {
		return nil // which is reported as such
	}
	location, _ := time.LoadLocation(*zone)
	at, how := spec.Local(t, location)
	switch how {
	case spec.LocalSkipped:
		p.at(n, spec.RuleClock, fmt.Sprintf("%s does not exist in %s: the clocks skip it", p.resolve(n).Value, *zone), "the job is due at "+at.Format(time.RFC3339)+"; write that if it is meant")
	case spec.LocalTwice:
		p.at(n, spec.RuleClock, fmt.Sprintf("%s comes twice in %s: the clocks go back", p.resolve(n).Value, *zone), "the first counts, "+at.Format(time.RFC3339)+"; write the time with its offset if the other one is meant")
	case spec.LocalOnce:
	}
	return &at
}

// statuses reads a status, a range of them, or a list of both.
func (p *parser) statuses(o object, key string) spec.StatusSet {
	n := o.value(key)
	if n == nil {
		return nil
	}
	elements := []*yaml.Node{n}
	if list := deref(n); list.Kind == yaml.SequenceNode {
		elements = list.Content
		if len(elements) == 0 {
			p.at(n, spec.RuleValue, key+" is an empty list, so nothing would count as success", "list at least one status, as in [200]")
		}
	}
	var set spec.StatusSet
	for _, e := range elements {
		v, ok := p.scalarNode(o.child(key), e, "a status, a range or a list of them", "!!int", "!!str")
		if !ok {
			continue
		}
		r, err := parseStatus(v.Value)
		if err != nil {
			p.at(e, spec.RuleValue, fmt.Sprintf("%s %q %s", key, spec.Clip(v.Value), err), `write a number such as 200 or a range such as "200-299", from 0 to 2147483647`)
			continue
		}
		set = append(set, r)
	}
	return set
}

func parseStatus(s string) (spec.StatusRange, error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	if !decimal(from) || !decimal(to) {
		return spec.StatusRange{}, errNoStatus
	}
	a, errA := strconv.ParseInt(from, 10, 32)
	b, errB := strconv.ParseInt(to, 10, 32)
	switch {
	case errA != nil || errB != nil:
		return spec.StatusRange{}, errStatusRange
	case a > b:
		return spec.StatusRange{}, errFalling
	}
	return spec.StatusRange{From: int(a), To: int(b)}, nil
}

package planfile

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the binary is static and may run where no database is

	"github.com/go-playground/validator/v10"
	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// validate applies the limits of the field table to every value that was read,
// and asks for the fields that are required.
func (p *parser) validate(d *document) {
	v, err := newValidator(p.table)
	if err != nil {
		panic("spec: the field table holds a rule that the validator does not take: " + err.Error())
	}
	var found validator.ValidationErrors
	if err := v.Struct(d); errors.As(err, &found) {
		for _, f := range found {
			p.fieldError(d, f)
		}
	}
}

// newValidator turns the table into rules of the validator, one set for each
// section of the document.
func newValidator(t spec.Table) (*validator.Validate, error) {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string { return f.Tag.Get("yaml") })
	formats := map[string]func(string) bool{
		"name": validName, "hostName": validHostName, "deviceID": validDeviceID, "method": validMethod,
		"envName": validEnvName, "timezone": validTimezone,
	}
	var failed error
	for name, valid := range formats {
		failed = errors.Join(failed, v.RegisterValidation(name, func(fl validator.FieldLevel) bool { return valid(fl.Field().String()) }))
	}
	for parent, section := range sections() {
		v.RegisterStructValidationMapRules(fieldRules(t, parent, section), section)
	}
	return v, failed
}

// sections are the mappings of the document, by the path of the table.
func sections() map[string]any {
	return map[string]any{
		"": document{}, "hub": hubSection{}, "hubs[]": hubsSection{}, "vars[]": varSection{}, "jobs[]": jobSection{}, "defaults": defaultSection{},
		"jobs[].target": targetSection{}, "jobs[].target.expect": expectSection{},
		"jobs[].success": successSection{}, "jobs[].retry": retrySection{},
		"jobs[].needs[]": needSection{}, "jobs[].confirm": confirmSection{}, "jobs[].window": windowSection{},
		"jobs[].rollout": rolloutSection{}, "jobs[].rollout.waves[]": waveSection{}, "jobs[].rollout.ramp": rampSection{}, "jobs[].rollout.stopWhen": stopWhenSection{}, "jobs[].tolerate": tolerateSection{},
	}
}

func fieldRules(t spec.Table, parent string, section any) map[string]string {
	rules := map[string]string{}
	for f := range reflect.TypeOf(section).Fields() {
		key := f.Tag.Get("yaml")
		if key == "" {
			continue
		}
		place := strings.TrimPrefix(parent+"."+key, ".")
		field, ok := t.Field(place)
		if !ok { // defaults, which mirrors a job
			continue
		}
		if rule := fieldRule(field, parent != "defaults"); rule != "" {
			rules[f.Name] = rule
		}
	}
	return rules
}

// fieldRule writes the limits of a field in the validator's language.
func fieldRule(f spec.Field, required bool) string {
	var rules []string
	if f.Required && required {
		rules = append(rules, "required")
	} else {
		rules = append(rules, "omitnil")
	}
	switch {
	case f.Type == spec.FieldNames:
		rules = append(rules, "dive")
	case f.List && f.Type == spec.FieldText:
		rules = append(rules, "dive", "omitempty") // an empty element was refused already
	case f.List && f.Type == spec.FieldObject:
		rules = append(rules, "dive")
	}
	switch f.Type { //nolint:exhaustive // the other types have no limits that are ordered
	case spec.FieldInteger, spec.FieldNumber, spec.FieldDuration:
		rules = append(rules, limit("gte", f.Min), limit("lte", f.Max))
	case spec.FieldRate:
		rules = append(rules, limit("gte", perSecond(f.Min)), limit("lte", perSecond(f.Max)))
	}
	if len(f.Values) > 0 && f.Type == spec.FieldText {
		rules = append(rules, "oneof="+strings.Join(f.Values, " "))
	}
	if f.Format != "" {
		rules = append(rules, f.Format)
	}
	return strings.Join(nonEmpty(rules), ",")
}

func limit(tag, value string) string {
	if value == "" {
		return ""
	}
	return tag + "=" + value
}

func perSecond(rate string) string {
	r, err := ParseRate(rate)
	if err != nil {
		return ""
	}
	return strconv.FormatFloat(r, 'g', -1, 64)
}

func nonEmpty(words []string) []string {
	var kept []string
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return kept
}

// fieldError turns a finding of the validator into one of ours. Its namespace
// is the path of the value, below the name of the document's type.
func (p *parser) fieldError(d *document, e validator.FieldError) {
	_, place, _ := strings.Cut(e.Namespace(), ".")
	f, _ := p.table.Field(place)
	n, found := locate(d.node, place)
	if e.Tag() == "required" {
		if !found && !p.meant[place] { // neither refused nor misspelled
			p.missing(n, place, f)
		}
		return
	}
	if !found {
		panic("spec: the validator reports a value that is not in the plan: " + place)
	}
	value := p.resolve(n).Value
	from := origin(n)
	switch e.Tag() {
	case "gte", "lte":
		p.at(n, spec.RuleRange, fmt.Sprintf("%s is %s%s", label(place), spec.Clip(value), from), "it may be "+f.Limits())
	case "oneof":
		hint := "it may be " + spec.Join(f.Values, "or")
		if like := spec.Closest(value, f.Values); like != "" && len(like) > 2 {
			hint = fmt.Sprintf("did you mean %q?", like)
		}
		p.at(n, spec.RuleValue, fmt.Sprintf("%s cannot be %q%s", label(place), spec.Clip(value), from), hint)
	default:
		p.formatError(n, place, e.Tag(), value)
	}
}

func (p *parser) formatError(n *yaml.Node, place, format, value string) {
	rule, hint := spec.RuleValue, ""
	switch format {
	case "name":
		hint = "use 1 to 64 of a-z, 0-9 and -, starting and ending with a letter or digit"
		if like := nameLike(value); like != "" {
			hint += fmt.Sprintf(", as in %q", like)
		}
	case "hostName":
		hint = "write the host name alone, as in contoso.azure-devices.net"
	case "deviceID":
		rule, hint = spec.RuleDeviceID, deviceIDHint
	case "envName":
		hint = "name an environment variable, as in HUB_EU; the connection string itself never stands in a plan"
	case "timezone":
		hint = "use a name of the IANA time zone database, as in Europe/Paris or UTC"
	case "method":
		hint = "write the name that the device registered, as in lockDoor"
	}
	p.at(n, rule, fmt.Sprintf("%s cannot be %q%s", label(place), spec.Clip(value), origin(n)), hint)
}

// origin says what a value was filled in from, where it was.
func origin(n *yaml.Node) string {
	if v := deref(n); v.Tag == "!!str" && spec.HasPlaceholder(v.Value) {
		return ", from " + spec.Clip(v.Value)
	}
	return ""
}

func (p *parser) missing(parent *yaml.Node, place string, f spec.Field) {
	if deref(parent).Kind != yaml.MappingNode {
		return // reported as such already
	}
	holder := object{place: strings.TrimSuffix(place, f.Key())}
	holder.place = strings.TrimSuffix(holder.place, ".")
	p.at(parent, spec.RuleRequired, fmt.Sprintf("%s has no %s", holder.what(), f.Key()), fmt.Sprintf("add %s: %s", f.Key(), f.Example))
}

// locate returns the node at a place such as "jobs[2].retry.attempts", or the
// deepest one on the way to it.
func locate(n *yaml.Node, place string) (*yaml.Node, bool) {
	for place != "" {
		var step string
		step, place = nextStep(place)
		next := child(deref(n), step)
		if next == nil {
			return n, false
		}
		n = next
	}
	return n, true
}

func nextStep(place string) (step, rest string) {
	if place[0] == '[' {
		step, rest, _ = strings.Cut(place[1:], "]")
		return "[" + step, strings.TrimPrefix(rest, ".")
	}
	if i := strings.IndexAny(place, ".["); i >= 0 {
		return place[:i], strings.TrimPrefix(place[i:], ".")
	}
	return place, ""
}

func child(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.SequenceNode {
		i, err := strconv.Atoi(strings.TrimPrefix(step, "["))
		if err == nil && i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	step = strings.TrimPrefix(step, "[")
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			return n.Content[i+1]
		}
	}
	return nil
}

func validName(s string) bool { return len(s) <= 64 && spec.ExprName.MatchString(s) }

func validHostName(s string) bool { return len(s) <= 259 && spec.ExprHost.MatchString(s) }

func validMethod(s string) bool {
	return s != "" && len(s) <= 256 && strings.TrimSpace(s) == s && spec.Printable(s) == s
}

func validEnvName(s string) bool {
	return s != "" && (s[0] == '_' || s[0] > '9') && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

func validTimezone(s string) bool {
	_, err := time.LoadLocation(s)
	return s != "" && s != "Local" && err == nil
}

// nameLike makes a name of what was meant as one.
func nameLike(s string) string {
	if len(s) > 100 {
		return ""
	}
	like := strings.Trim(spec.ExprNot.ReplaceAllString(strings.ToLower(s), "-"), "-")
	if !validName(like) {
		return ""
	}
	return like
}

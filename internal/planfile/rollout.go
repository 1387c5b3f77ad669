package planfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// pace reads when and in which order devices are touched.
func (p *parser) pace(j *jobSection) {
	o := j.object
	j.IfLate, j.Engine = p.text(o, "ifLate"), p.text(o, "engine")
	if n := o.value("window"); n != nil {
		w, _ := p.object(o.child("window"), n)
		j.Window = &windowSection{object: w, From: p.clock(w, "from"), To: p.clock(w, "to"), Days: p.texts(w, "days"), Timezone: p.text(w, "timezone")}
	}
	if n := o.value("rollout"); n != nil {
		j.Rollout = p.rollout(o.child("rollout"), n)
	}
	if n := o.value("tolerate"); n != nil {
		t, _ := p.object(o.child("tolerate"), n)
		j.Tolerate = &tolerateSection{object: t, Failed: p.share(t, "failed"), Offline: p.share(t, "offline"), Hubs: p.share(t, "hubs")}
	}
}

func (p *parser) rollout(place string, n *yaml.Node) *rolloutSection {
	o, _ := p.object(place, n)
	r := &rolloutSection{object: o}
	if n := o.value("pause"); n != nil && p.resolve(n).Value == spec.PauseManual {
		r.manual = true
	} else {
		r.Pause = p.duration(o, "pause")
	}
	if n := o.value("waves"); n != nil {
		r.Waves = p.waves(o.child("waves"), n)
	}
	if n := o.value("ramp"); n != nil {
		s, _ := p.object(o.child("ramp"), n)
		r.Ramp = &rampSection{object: s, From: p.rate(s, "from"), Factor: p.number(s, "factor"), Every: p.integer(s, "every")}
	}
	r.Scope = p.text(o, "scope")
	if n := o.value("stopWhen"); n != nil {
		s, _ := p.object(o.child("stopWhen"), n)
		r.StopWhen = &stopWhenSection{object: s, Failed: p.share(s, "failed"), Offline: p.share(s, "offline"), MinDone: p.integer(s, "minDone")}
	}
	return r
}

func (p *parser) waves(place string, n *yaml.Node) []*waveSection {
	elements := p.list(place, n, "a list of counts and shares")
	waves := make([]*waveSection, len(elements))
	for i, e := range elements {
		at := fmt.Sprintf("%s[%d]", place, i)
		if deref(e).Kind != yaml.MappingNode {
			waves[i] = &waveSection{object: object{place: at, node: e}, node: e}
			if s, ok := p.shareNode(at, e); ok {
				waves[i].Size = &s
			}
			continue
		}
		o, _ := p.object(at, e)
		w := &waveSection{object: o, node: e, Size: p.share(o, "size"), Devices: p.texts(o, "devices")}
		if q := o.value("query"); q != nil {
			w.Query = p.queryNode(o.child("query"), q)
			w.selected = targetSection{object: o, node: e, query: q, Query: w.Query, found: queryTarget{source: spec.SourceDevices}}
			if w.Query != nil {
				p.query(&w.selected)
			}
		}
		waves[i] = w
	}
	return waves
}

func (p *parser) needs(place string, n *yaml.Node) []*needSection {
	elements := p.list(place, n, "a list of jobs")
	needs := make([]*needSection, len(elements))
	for i, e := range elements {
		at := fmt.Sprintf("%s[%d]", place, i)
		if deref(e).Kind == yaml.ScalarNode {
			needs[i] = &needSection{object: object{place: at, node: e}, Job: p.textNode(at, e)}
			continue
		}
		o, _ := p.object(at, e)
		needs[i] = &needSection{object: o, Job: p.text(o, "job"), If: p.text(o, "if")}
	}
	return needs
}

func (p *parser) confirm(place string, n *yaml.Node) *confirmSection {
	o, _ := p.object(place, n)
	c := &confirmSection{object: o, Within: p.duration(o, "within"), Changed: p.texts(o, "changed")}
	if n := o.value("reported"); n != nil {
		c.Reported = p.twinSection(reportedLimits(), n)
	}
	return c
}

var (
	errNoShare    = errors.New("is not a count or a share")
	errShareRange = errors.New("is more than all")
)

func (p *parser) share(o object, key string) *spec.Share {
	n := o.value(key)
	if n == nil {
		return nil
	}
	s, ok := p.shareNode(o.child(key), n)
	if !ok {
		return nil
	}
	return &s
}

func (p *parser) shareNode(place string, n *yaml.Node) (spec.Share, bool) {
	v, ok := p.scalarNode(place, n, "a count or a share", "!!int", "!!str")
	if !ok {
		return spec.Share{}, false
	}
	s, err := parseShare(v.Value)
	if err != nil {
		p.at(n, spec.RuleValue, fmt.Sprintf("%s %q %s", label(place), spec.Clip(v.Value), err), "write a number of devices such as 10, or a share from 0% to 100%")
		return spec.Share{}, false
	}
	return s, true
}

// parseShare reads "10" or "2.5%".
func parseShare(s string) (spec.Share, error) {
	number, relative := strings.CutSuffix(s, "%")
	if !relative {
		n, err := strconv.Atoi(s)
		if err != nil || !decimal(s) || n < 0 {
			return spec.Share{}, errNoShare
		}
		return spec.Share{Count: n}, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	switch {
	case err != nil || strings.Trim(number, "0123456789.") != "":
		return spec.Share{}, errNoShare
	case f > 100:
		return spec.Share{}, errShareRange
	}
	return spec.Share{Percent: f, Relative: true}, nil
}

func (p *parser) clock(o object, key string) *time.Duration {
	n := o.value(key)
	if n == nil {
		return nil
	}
	v, ok := p.scalarNode(o.child(key), n, `a time of day such as "02:00"`, "!!str")
	if !ok {
		return nil
	}
	t, err := time.Parse("15:04", v.Value)
	if err != nil || len(v.Value) != len("15:04") {
		p.at(n, spec.RuleValue, fmt.Sprintf("%s %q is not a time of day", key, spec.Clip(v.Value)), `write hours and minutes, as in "02:00" or "23:30"`)
		return nil
	}
	d := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	return &d
}

// weekday returns the day that a plan calls mon, tue, ...
func weekday(s string) time.Weekday {
	for d := range time.Saturday {
		if strings.ToLower(d.String()[:3]) == s {
			return d
		}
	}
	return time.Saturday
}

func weekdays(names []string) []time.Weekday {
	if len(names) == 0 {
		return []time.Weekday{time.Sunday, time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday, time.Saturday}
	}
	days := make([]time.Weekday, len(names))
	for i, s := range names {
		days[i] = weekday(s)
	}
	return days
}

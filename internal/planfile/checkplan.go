package planfile

import (
	"fmt"
	"slices"
	"strings"

	"iothub-runner/spec"
)

// checkHubs: one hub, or several that differ.
func checkHubs(p *parser, d *document) {
	if d.has("hub") && d.has("hubs") {
		p.at(d.key("hubs"), spec.RuleExclusive, "hub and hubs exclude each other", "keep one of them")
	}
	first := map[string]spec.Pos{}
	for _, h := range d.Hubs {
		if h.HostName == nil {
			continue
		}
		name := strings.ToLower(*h.HostName)
		if at, ok := first[name]; ok {
			p.at(h.value("hostName"), spec.RuleHubs, fmt.Sprintf("hub %q stands twice; first on line %d, column %d", spec.Clip(*h.HostName), at.Line, at.Column), "keep one of them")
			continue
		}
		first[name] = p.src.nodePos(h.value("hostName"))
	}
}

// checkNeeds: needs name other jobs of the plan, each once, and no job waits
// for itself in the end.
func checkNeeds(p *parser, d *document) {
	byName := map[string]*jobSection{}
	var names []string
	for _, j := range d.Jobs {
		if j.Name != nil {
			byName[*j.Name] = j
			names = append(names, *j.Name)
		}
	}
	for _, j := range d.Jobs {
		seen := map[string]bool{}
		for _, n := range j.Needs {
			if n.Job != nil {
				p.checkNeed(j, n, byName, names, seen)
			}
		}
	}
	c := cycles{p: p, byName: byName, state: map[*jobSection]int{}}
	for _, j := range d.Jobs {
		c.visit(j)
	}
}

func (p *parser) checkNeed(j *jobSection, n *needSection, byName map[string]*jobSection, names []string, seen map[string]bool) {
	at := n.node
	if v := n.value("job"); v != nil {
		at = v
	}
	name := *n.Job
	switch {
	case p.full: // a guess at what was meant looks at every job
	case j.Name != nil && *j.Name == name:
		p.at(at, spec.RuleNeeds, fmt.Sprintf("job %q needs itself", spec.Clip(name)), "remove it")
	case seen[name]:
		p.at(at, spec.RuleNeeds, fmt.Sprintf("job %q is needed twice", spec.Clip(name)), "keep one of them")
	case byName[name] == nil:
		hint := "name another job of this plan"
		if like := spec.Closest(name, names); like != "" {
			hint = fmt.Sprintf("did you mean %q?", like)
		}
		p.at(at, spec.RuleNeeds, fmt.Sprintf("there is no job %q", spec.Clip(name)), hint)
	}
	seen[name] = true
}

// cycles walks along needs; a job met again while it is still being walked
// closes a circle.
type cycles struct {
	p      *parser
	byName map[string]*jobSection
	state  map[*jobSection]int // 1 while being walked, 2 when done
	path   []*jobSection
}

func (c *cycles) visit(j *jobSection) {
	if c.state[j] != 0 {
		return
	}
	c.state[j] = 1
	c.path = append(c.path, j)
	for _, n := range j.Needs {
		if n.Job == nil {
			continue
		}
		switch next := c.byName[*n.Job]; {
		case next == nil || next == j:
		case c.state[next] == 1:
			c.report(n, next)
		default:
			c.visit(next)
		}
	}
	c.path = c.path[:len(c.path)-1]
	c.state[j] = 2
}

func (c *cycles) report(n *needSection, back *jobSection) {
	var names []string
	for _, j := range c.path[slices.Index(c.path, back):] {
		if len(names) == 8 {
			names = append(names, "...")
			break
		}
		names = append(names, spec.Clip(*j.Name))
	}
	at := n.node
	if v := n.value("job"); v != nil {
		at = v
	}
	c.p.at(at, spec.RuleNeeds, fmt.Sprintf("jobs wait for each other: %s needs %s", strings.Join(names, " needs "), spec.Clip(*back.Name)), "remove one of these needs")
}

// checkConfirms: there is something to confirm.
func checkConfirms(p *parser, d *document) {
	for _, j := range d.Jobs {
		if j.Confirm != nil && or(j.Type, nil, "") == string(spec.TypeUpdateTwin) && !j.Confirm.has("reported") && !j.has("desired") {
			p.at(j.key("confirm"), spec.RuleConfirm, "confirm has nothing to wait for: the job changes tags alone", "add reported: {...}, or remove confirm")
		}
	}
}

func checkWindows(p *parser, d *document) {
	for _, j := range d.withDefaults() {
		w := j.Window
		if w == nil {
			continue
		}
		if w.From != nil && w.To != nil && *w.From == *w.To {
			p.at(w.value("to"), spec.RuleWindow, "the window closes when it opens", "leave the window out for the whole day")
		}
		for i, day := range w.Days {
			if day != "" && slices.Contains(w.Days[:i], day) {
				p.at(deref(w.value("days")).Content[i], spec.RuleWindow, fmt.Sprintf("day %q stands twice", spec.Clip(day)), "keep one of them")
			}
		}
	}
}

// checkLate: only a job with a time of its own can be late.
func checkLate(p *parser, d *document) {
	windows := d.Defaults != nil && d.Defaults.has("window")
	for _, j := range d.Jobs {
		if j.has("ifLate") && !j.has("at") && !j.has("window") && !windows {
			p.at(j.key("ifLate"), spec.RuleLate, "ifLate says nothing for a job without at or window", "add one of them, or remove ifLate")
		}
	}
}

// checkWaves: waves rise, as far as that shows before the cohort is known, and
// end with all of it.
func checkWaves(p *parser, d *document) {
	for _, j := range d.withDefaults() {
		if j.Rollout == nil {
			continue
		}
		p.checkWaves(j.Rollout)
		if s := j.Rollout.StopWhen; s != nil && !p.given(s.object, "failed", "offline") {
			p.at(j.Rollout.key("stopWhen"), spec.RuleWaves, "stopWhen never stops: it has neither failed nor offline", "add failed: 5%")
		}
	}
}

func (p *parser) checkWaves(r *rolloutSection) {
	n := r.value("waves")
	if n == nil || len(r.Waves) == 0 || len(r.Waves) != len(deref(n).Content) {
		return
	}
	nodes := deref(n).Content
	var before [2]*spec.Share // the last count and the last share
	for i, w := range r.Waves {
		kind := 0
		if w.Relative {
			kind = 1
		}
		b := before[kind]
		switch {
		case w.Count == 0 && w.Percent == 0:
			p.at(nodes[i], spec.RuleWaves, "a wave of nothing", "start with 1 or 1%")
		case b != nil && w.Count <= b.Count && w.Percent <= b.Percent:
			p.at(nodes[i], spec.RuleWaves, fmt.Sprintf("wave %s does not rise above %s", w, b), "waves are cumulative: each says how many devices are under way by its end")
		}
		before[kind] = &w
	}
	if last := r.Waves[len(r.Waves)-1]; last.Percent != 100 {
		p.at(nodes[len(nodes)-1], spec.RuleWaves, fmt.Sprintf("the waves end at %s", last), "end with 100%; to act on fewer devices, set target.limit")
	}
}

// checkEngines: the hub's jobs send the same request to every device.
func checkEngines(p *parser, d *document) {
	shared := ""
	if d.Defaults != nil && d.Defaults.Engine != nil {
		shared = *d.Defaults.Engine
	}
	for _, j := range d.Jobs {
		engine := or(j.Engine, &shared, "")
		if spec.Engine(engine) != spec.EngineHubJobs {
			continue
		}
		for _, f := range []struct {
			key   string
			value *jsonValue
		}{{"payload", j.Payload}, {"desired", j.Desired}, {"tags", j.Tags}} {
			if f.value != nil && f.value.template != nil {
				p.at(j.key(f.key), spec.RuleEngine, fmt.Sprintf("%s differs by device, which a job of the hub cannot do", f.key), "use engine: direct, or values that are the same for all")
			}
		}
	}
}

package planfile

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"iothub-runner/internal/twinquery"
	"iothub-runner/spec"
)

// checkHubs: one hub, or several that differ.
func checkHubs(p *parser, d *document) {
	if d.has("hub") && d.has("hubs") {
		p.at(d.key("hubs"), spec.RuleExclusive, "hub and hubs exclude each other", "keep one of them")
	}
	const most = 100
	if len(d.Hubs) > most {
		p.at(d.key("hubs"), spec.RuleHubs, fmt.Sprintf("there are %d hubs, %d at most run together", len(d.Hubs), most), "make several plans of it")
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
		if j.Confirm == nil || j.Confirm.has("reported") || j.Confirm.has("changed") {
			continue
		}
		switch or(j.Type, nil, "") {
		case string(spec.TypeUpdateTwin):
			if !j.has("desired") {
				p.at(j.key("confirm"), spec.RuleConfirm, "confirm has nothing to wait for: the job changes tags alone", "add reported: {...}, or remove confirm")
			}
		case string(spec.TypeDirectMethod):
			p.at(j.key("confirm"), spec.RuleConfirm, "confirm has nothing to wait for: a method says nothing of what the device reports", "add reported: {...} or changed: [bootTime], or remove confirm")
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
	if n == nil || len(r.Waves) == 0 {
		return
	}
	before := map[bool]*spec.Share{} // the last share, and the last count
	for _, w := range r.Waves {
		if p.checkWave(w) && w.Size != nil {
			p.checkRise(w, before[w.Size.Relative])
			before[w.Size.Relative] = w.Size
		}
	}
	p.checkLastWave(r.Waves[len(r.Waves)-1])
}

// checkRise: a size is larger than the one of its kind before it, if there is one.
func (p *parser) checkRise(w *waveSection, before *spec.Share) {
	switch {
	case w.Size.Count == 0 && w.Size.Percent == 0:
		p.at(w.node, spec.RuleWaves, "a wave of nothing", "start with 1 or 1%")
	case before != nil && w.Size.Count <= before.Count && w.Size.Percent <= before.Percent:
		p.at(w.node, spec.RuleWaves, fmt.Sprintf("wave %s does not rise above %s", w.Size, before), "waves are cumulative: each says how many devices are under way by its end")
	}
}

// checkLastWave: nobody is left out.
func (p *parser) checkLastWave(last *waveSection) {
	switch {
	case last.Size != nil && last.Size.Percent != 100:
		p.at(last.node, spec.RuleWaves, fmt.Sprintf("the waves end at %s", last.Size), "end with 100%; to act on fewer devices, set target.limit")
	case last.Size == nil && (last.has("devices") || last.has("query")):
		p.at(last.node, spec.RuleWaves, "the last wave leaves out whoever is not in a wave", "end with 100%; to act on fewer devices, narrow the target")
	}
}

// checkWave: a wave says in one way who belongs to it.
func (p *parser) checkWave(w *waveSection) bool {
	if !w.isLong() {
		return w.Size != nil
	}
	var given []string
	for _, key := range []string{"size", "devices", "query"} {
		if w.has(key) {
			given = append(given, key)
		}
	}
	switch {
	case len(given) > 1:
		p.at(w.key(given[1]), spec.RuleWaves, fmt.Sprintf("%s and %s exclude each other", given[0], given[1]), "make two waves of them")
	case len(given) == 0 && len(deref(w.node).Content) == 0:
		p.at(w.node, spec.RuleWaves, "a wave of nothing", "give a size, devices or a query")
	case w.Query != nil && twinquery.IsSelect(*w.Query):
		p.at(w.value("query"), spec.RuleWaves, "a wave's query is a condition alone", "write the condition that stands after WHERE")
	default:
		return len(given) == 1
	}
	return false
}

func (w *waveSection) isLong() bool { return deref(w.node).Kind == yaml.MappingNode }

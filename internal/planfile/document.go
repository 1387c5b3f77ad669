package planfile

import (
	"encoding/json"
	"fmt"
	"time"

	"gopkg.in/yaml.v3"

	"iothub-runner/spec"
)

// document is the plan as written: every value typed, nothing filled in, nil
// where a key is absent or its value was refused. The yaml tags tie each field
// to the table, whose limits the validator applies.
type document struct {
	object
	Version     *int                   `yaml:"version"`
	Name        *string                `yaml:"name"`
	Description *string                `yaml:"description"`
	Hub         *hubSection            `yaml:"hub"`
	Hubs        []*hubsSection         `yaml:"hubs"`
	Vars        map[string]*varSection `yaml:"vars"`
	Defaults    *defaultSection        `yaml:"defaults"`
	Jobs        []*jobSection          `yaml:"jobs"`
}

type hubSection struct {
	object
	HostName *string `yaml:"hostName"`
	SKU      *string `yaml:"sku"`
	Units    *int    `yaml:"units"`
}

type hubsSection struct {
	object
	HostName            *string `yaml:"hostName"`
	ConnectionStringEnv *string `yaml:"connectionStringEnv"`
	SKU                 *string `yaml:"sku"`
	Units               *int    `yaml:"units"`
}

type varSection struct {
	object
	Type        *string    `yaml:"type"`
	Default     *yaml.Node // checked by hand: its type is another field's value
	AllowEmpty  *bool      `yaml:"allowEmpty"`
	Sensitive   *bool      `yaml:"sensitive"`
	Description *string    `yaml:"description"`
}

// defaultSection is a job section of which nothing is required.
type defaultSection jobSection

type jobSection struct {
	object
	Name            *string          `yaml:"name"`
	Type            *string          `yaml:"type"`
	Target          *targetSection   `yaml:"target"`
	Delay           *time.Duration   `yaml:"delay"`
	At              *time.Time       `yaml:"at"`
	Timezone        *string          `yaml:"timezone"`
	Method          *string          `yaml:"method"`
	Needs           []*needSection   `yaml:"needs"`
	Payload         *jsonValue       `yaml:"payload"`
	PayloadFile     *string          `yaml:"payloadFile"`
	Desired         *jsonValue       `yaml:"desired"`
	Tags            *jsonValue       `yaml:"tags"`
	Confirm         *confirmSection  `yaml:"confirm"`
	ConnectTimeout  *time.Duration   `yaml:"connectTimeout"`
	ResponseTimeout *time.Duration   `yaml:"responseTimeout"`
	Success         *successSection  `yaml:"success"`
	Idempotent      *bool            `yaml:"idempotent"`
	Offline         *string          `yaml:"offline"`
	Guard           *string          `yaml:"guard"`
	Concurrency     *int             `yaml:"concurrency"`
	Rate            *float64         `yaml:"rate"`
	Deadline        *time.Duration   `yaml:"deadline"`
	Retry           *retrySection    `yaml:"retry"`
	Window          *windowSection   `yaml:"window"`
	IfLate          *string          `yaml:"ifLate"`
	Rollout         *rolloutSection  `yaml:"rollout"`
	Tolerate        *tolerateSection `yaml:"tolerate"`
	Engine          *string          `yaml:"engine"`

	files []spec.File // the payloadFile
}

// jsonValue is a value of the author's own: JSON, or a template for it.
type jsonValue struct {
	json     json.RawMessage
	template *spec.Template
}

type needSection struct {
	object
	Job *string `yaml:"job"`
	If  *string `yaml:"if"`
}

type confirmSection struct {
	object
	Reported *jsonValue     `yaml:"reported"`
	Changed  []string       `yaml:"changed"`
	Within   *time.Duration `yaml:"within"`
}

type windowSection struct {
	object
	From     *time.Duration `yaml:"from"`
	To       *time.Duration `yaml:"to"`
	Days     []string       `yaml:"days"`
	Timezone *string        `yaml:"timezone"`
}

type rolloutSection struct {
	object
	Waves    []*waveSection   `yaml:"waves"`
	Pause    *time.Duration   `yaml:"pause"`
	StopWhen *stopWhenSection `yaml:"stopWhen"`
	Ramp     *rampSection     `yaml:"ramp"`
	Scope    *string          `yaml:"scope"`

	manual bool // pause: manual
}

type waveSection struct {
	object
	Size    *spec.Share `yaml:"size"`
	Devices []string    `yaml:"devices"`
	Query   *string     `yaml:"query"`

	node     *yaml.Node // of the wave as a whole
	selected targetSection
}

type rampSection struct {
	object
	From   *float64 `yaml:"from"`
	Factor *float64 `yaml:"factor"`
	Every  *int     `yaml:"every"`
}

type stopWhenSection struct {
	object
	Failed  *spec.Share `yaml:"failed"`
	Offline *spec.Share `yaml:"offline"`
	MinDone *int        `yaml:"minDone"`
}

type tolerateSection struct {
	object
	Failed  *spec.Share `yaml:"failed"`
	Offline *spec.Share `yaml:"offline"`
	Hubs    *spec.Share `yaml:"hubs"`
}

type successSection struct {
	object
	Status spec.StatusSet `yaml:"status"`
}

type retrySection struct {
	object
	Attempts   *int           `yaml:"attempts"`
	Backoff    *time.Duration `yaml:"backoff"`
	MaxBackoff *time.Duration `yaml:"maxBackoff"`
}

type targetSection struct {
	object
	Query       *string        `yaml:"query"`
	Devices     []string       `yaml:"devices"`
	DevicesFile *string        `yaml:"devicesFile"`
	Exclude     []string       `yaml:"exclude"`
	Limit       *int           `yaml:"limit"`
	Expect      *expectSection `yaml:"expect"`
	AllowEmpty  *bool          `yaml:"allowEmpty"`
	Sensitive   *bool          `yaml:"sensitive"`
	All         *bool          `yaml:"all"`

	node  *yaml.Node // of the target as a whole
	query *yaml.Node // of the query
	found queryTarget
	ids   spec.DeviceList // from devices and from devicesFile
	files []spec.File     // the devicesFile
	rows  *rowFile        // the values in it; nil if it has none
}

type expectSection struct {
	object
	Min      *int  `yaml:"min"`
	Max      *int  `yaml:"max"`
	Excluded *bool `yaml:"excluded"`
}

// has tells whether a key was written, whatever became of its value.
func (o object) has(key string) bool { return o.value(key) != nil }

func (p *parser) document(root *yaml.Node) (*document, bool) {
	o, ok := p.object("", root)
	if !ok {
		return nil, false
	}
	var vars map[string]*varSection
	if n := o.value("vars"); n != nil { // first, because any text may use one
		vars = p.readVars(n)
	}
	d := &document{object: o, Vars: vars, Version: p.integer(o, "version"), Name: p.text(o, "name"), Description: p.text(o, "description")}
	if n := o.value("hub"); n != nil {
		d.Hub = p.hub(n)
	}
	if n := o.value("hubs"); n != nil {
		d.Hubs = p.hubs(n)
	}
	if n := o.value("defaults"); n != nil {
		j := defaultSection(*p.job("defaults", n))
		d.Defaults, p.timezone = &j, j.Timezone
	}
	if n := o.value("jobs"); n != nil {
		d.Jobs = p.jobs(n)
	}
	return d, true
}

func (p *parser) hub(n *yaml.Node) *hubSection {
	o, _ := p.object("hub", n)
	return &hubSection{object: o, HostName: p.text(o, "hostName"), SKU: p.text(o, "sku"), Units: p.integer(o, "units")}
}

func (p *parser) hubs(n *yaml.Node) []*hubsSection {
	elements := p.list("hubs", n, "a list of hubs")
	hubs := make([]*hubsSection, len(elements))
	for i, e := range elements {
		o, _ := p.object(fmt.Sprintf("hubs[%d]", i), e)
		hubs[i] = &hubsSection{
			object: o, HostName: p.text(o, "hostName"), ConnectionStringEnv: p.text(o, "connectionStringEnv"),
			SKU: p.text(o, "sku"), Units: p.integer(o, "units"),
		}
	}
	return hubs
}

// list returns the elements of a list that may not be empty.
func (p *parser) list(place string, n *yaml.Node, want string) []*yaml.Node {
	l := deref(n)
	if l.Kind != yaml.SequenceNode {
		p.wrongType(place, n, want)
		return nil
	}
	if len(l.Content) == 0 {
		p.at(n, spec.RuleValue, label(place)+" is an empty list", "leave it out, or list at least one")
	}
	return l.Content
}

func (p *parser) jobs(n *yaml.Node) []*jobSection {
	list := deref(n)
	if list.Kind != yaml.SequenceNode {
		p.at(n, spec.RuleType, "jobs must be a list, not "+describe(n), `start each job with "- name: ..."`)
		return nil
	}
	if len(list.Content) == 0 {
		p.at(n, spec.RuleRequired, "the plan has no jobs", "add at least one")
	}
	jobs := make([]*jobSection, len(list.Content))
	for i, e := range list.Content {
		jobs[i] = p.job(fmt.Sprintf("jobs[%d]", i), e)
	}
	return jobs
}

// job reads a job, or what stands under defaults.
func (p *parser) job(place string, n *yaml.Node) *jobSection {
	o, ok := p.object(place, n)
	j := &jobSection{object: o}
	if !ok {
		return j
	}
	j.Name, j.Type = p.text(o, "name"), p.text(o, "type")
	if n := o.value("needs"); n != nil {
		j.Needs = p.needs(o.child("needs"), n)
	}
	if n := o.value("target"); n != nil {
		j.Target = p.target(o.child("target"), n)
	}
	j.Delay, j.Timezone = p.duration(o, "delay"), p.text(o, "timezone")
	j.At = p.time(o, "at", j.Timezone)
	p.action(j)
	j.Concurrency, j.Rate, j.Deadline = p.integer(o, "concurrency"), p.rate(o, "rate"), p.duration(o, "deadline")
	if n := o.value("retry"); n != nil {
		j.Retry = p.retry(o.child("retry"), n)
	}
	p.pace(j)
	return j
}

func (p *parser) action(j *jobSection) {
	o := j.object
	j.Method = p.text(o, "method")
	j.PayloadFile = p.text(o, "payloadFile")
	j.ConnectTimeout, j.ResponseTimeout = p.duration(o, "connectTimeout"), p.duration(o, "responseTimeout")
	j.Idempotent, j.Offline, j.Guard = p.boolean(o, "idempotent"), p.text(o, "offline"), p.text(o, "guard")
	if n := o.value("success"); n != nil {
		if s, ok := p.object(o.child("success"), n); ok {
			j.Success = &successSection{object: s, Status: p.statuses(s, "status")}
		}
	}
	if n := o.value("payload"); n != nil {
		j.Payload = p.payload(n)
	}
	if n := o.value("desired"); n != nil {
		j.Desired = p.twinSection(desiredLimits(), n)
	}
	if n := o.value("tags"); n != nil {
		j.Tags = p.twinSection(tagLimits(), n)
	}
	if n := o.value("confirm"); n != nil {
		j.Confirm = p.confirm(o.child("confirm"), n)
	}
}

func (p *parser) retry(place string, n *yaml.Node) *retrySection {
	o, _ := p.object(place, n)
	return &retrySection{object: o, Attempts: p.integer(o, "attempts"), Backoff: p.duration(o, "backoff"), MaxBackoff: p.duration(o, "maxBackoff")}
}

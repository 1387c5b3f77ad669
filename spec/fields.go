package spec

import "strings"

// FieldType says which values a field takes.
type FieldType string

// The field types.
const (
	FieldText     FieldType = "string"
	FieldInteger  FieldType = "integer"
	FieldBoolean  FieldType = "boolean"
	FieldDuration FieldType = "duration" // Go's syntax plus d for days
	FieldRate     FieldType = "rate"     // 40/s, 300/m, 10/h
	FieldTime     FieldType = "time"     // RFC 3339
	FieldClock    FieldType = "clock"    // 02:00
	FieldShare    FieldType = "share"    // a count, or 10%
	FieldStatuses FieldType = "statuses" // 200, "200-299" or a list of them
	FieldJSON     FieldType = "any"      // any value that JSON can hold
	FieldJSONMap  FieldType = "map"      // a mapping with keys of the author's own
	FieldObject   FieldType = "object"   // a mapping with the fields below it
	FieldTarget   FieldType = "target"   // a query, or a mapping with the fields below it
)

// Field describes one key of the plan. The parser, the validator, the JSON
// Schema, the reference documentation and explain all read it, so that none of
// them can disagree.
type Field struct {
	Path     string // as in "jobs[].retry.attempts"; [] stands for each element
	Type     FieldType
	List     bool // a list of Type
	Required bool
	Default  string // what holds when the field is absent; empty if nothing does
	Min, Max string // limits in the field's own notation; empty if unbounded
	Values   []string
	Format   string   // the name of a rule for the text: name, hostName, deviceID...
	Only     JobType  // the job type that the field belongs to; empty for all
	Shared   bool     // may stand under defaults
	Planned  bool     // part of the language, not yet of this version
	Synonyms []string // what people write when they mean this field
	Doc      string
	Example  string // a value, in YAML

	key string // what Key returns, kept by newTable
}

// Key returns the last step of the field's path.
func (f Field) Key() string {
	return strings.TrimSuffix(f.Path[strings.LastIndexByte(f.Path, '.')+1:], "[]")
}

// Parent returns the path of the mapping that holds the field; the plan's own
// is empty.
func (f Field) Parent() string {
	return f.Path[:max(strings.LastIndexByte(f.Path, '.'), 0)]
}

// Fields lists every key of the plan, each mapping before the keys in it. The
// keys under defaults are not repeated: they are those of a job with Shared.
func Fields() []Field {
	var all []Field
	for _, part := range [][]Field{planFields(), jobFields(), targetFields(), methodFields(), policyFields(), rolloutFields()} {
		all = append(all, part...)
	}
	return all
}

func planFields() []Field {
	return []Field{
		{Path: "version", Type: FieldInteger, Required: true, Min: "1", Max: "1", Doc: "Version of the plan language.", Example: "1"},
		{Path: "name", Type: FieldText, Required: true, Format: "name", Doc: "Identifies the plan's runs, locks and journals.", Example: "lock-building-43"},
		{Path: "description", Type: FieldText, Doc: "What the plan is for, in words.", Example: "Move the doors of building 43 to floor 3 and lock them."},
		{Path: "hub", Type: FieldObject, Doc: "The hub that the plan is meant for. Credentials never stand here.", Example: "{hostName: contoso.azure-devices.net, sku: S1, units: 1}"},
		{Path: "hub.hostName", Type: FieldText, Format: "hostName", Synonyms: []string{"host", "hostname", "name"}, Doc: "The hub's host name; apply refuses any other hub.", Example: "contoso.azure-devices.net"},
		{Path: "hub.sku", Type: FieldText, Values: []string{"F1", "S1", "S2", "S3"}, Synonyms: []string{"tier"}, Doc: "The hub's size; requests stay below its published throttles.", Example: "S1"},
		{Path: "hub.units", Type: FieldInteger, Min: "1", Max: "200", Default: "1", Doc: "How many units of the sku the hub has.", Example: "2"},
		{Path: "hubs", Type: FieldObject, List: true, Planned: true, Doc: "Several hubs instead of one; the plan runs on each, with one report.", Example: "[{hostName: contoso-eu.azure-devices.net, connectionStringEnv: HUB_EU}]"},
		{Path: "vars", Type: FieldJSONMap, Planned: true, Synonyms: []string{"variables"}, Doc: "Values that are filled in as ${var.NAME}.", Example: "{building: {type: integer, default: 43}}"},
		{Path: "defaults", Type: FieldObject, Doc: "Fields for every job that does not set them itself.", Example: "{concurrency: 64, deadline: 2h, retry: {attempts: 4}}"},
	}
}

func jobFields() []Field {
	return []Field{
		{Path: "jobs", Type: FieldObject, List: true, Required: true, Synonyms: []string{"tasks", "steps"}, Doc: "What to do. All jobs run at once, each on its own clock.", Example: "[{name: lock, type: directMethod, target: tags.building = 43, method: lockDoor}]"},
		{Path: "jobs[].name", Type: FieldText, Required: true, Format: "name", Synonyms: []string{"id", "jobid"}, Doc: "Names the job in the report; no two jobs share one.", Example: "lock"},
		{Path: "jobs[].type", Type: FieldText, Required: true, Values: []string{string(TypeDirectMethod), string(TypeUpdateTwin)}, Synonyms: []string{"kind", "jobtype"}, Doc: "What the job does to each device.", Example: "directMethod"},
		{Path: "jobs[].target", Type: FieldTarget, Required: true, Synonyms: []string{"query", "where", "condition", "querycondition", "devices"}, Doc: "Which devices or modules the job acts on: a condition, a full SELECT, or a mapping.", Example: "tags.building = 43"},
		{Path: "jobs[].delay", Type: FieldDuration, Default: "0s", Min: "0s", Synonyms: []string{"after", "wait"}, Doc: "How long after the start of the run the job is due.", Example: "10s"},
		{Path: "jobs[].at", Type: FieldTime, Synonyms: []string{"starttime", "start"}, Doc: "When the job is due, instead of delay.", Example: "2026-12-01T02:00:00Z"},
		{Path: "jobs[].needs", Type: FieldObject, List: true, Planned: true, Synonyms: []string{"dependson"}, Doc: "Jobs that must have ended first.", Example: "[move]"},
	}
}

func targetFields() []Field {
	return []Field{
		{Path: "jobs[].target.query", Type: FieldText, Synonyms: []string{"where", "condition"}, Doc: "A condition of the twin query language, or a full SELECT from devices or devices.modules.", Example: "tags.building = 43"},
		{Path: "jobs[].target.devices", Type: FieldText, List: true, Format: "deviceID", Synonyms: []string{"ids", "deviceids"}, Doc: "Devices by id, and modules as device/module; added to what the query finds.", Example: "[door-1, door-2]"},
		{Path: "jobs[].target.devicesFile", Type: FieldText, Planned: true, Doc: "A file with one id a line, beside the plan.", Example: "doors.txt"},
		{Path: "jobs[].target.exclude", Type: FieldText, List: true, Format: "deviceID", Synonyms: []string{"except"}, Doc: "Devices or modules to leave out.", Example: "[door-9]"},
		{Path: "jobs[].target.limit", Type: FieldInteger, Min: "1", Doc: "At most so many devices.", Example: "500"},
		{Path: "jobs[].target.expect", Type: FieldObject, Doc: "How many devices there must be; checked before the first request to one.", Example: "{min: 1, max: 500}"},
		{Path: "jobs[].target.expect.min", Type: FieldInteger, Min: "0", Default: "0", Doc: "The fewest devices.", Example: "1"},
		{Path: "jobs[].target.expect.max", Type: FieldInteger, Min: "1", Doc: "The most devices.", Example: "500"},
		{Path: "jobs[].target.allowEmpty", Type: FieldBoolean, Default: "false", Doc: "Lets the job succeed when there is no device to act on.", Example: "true"},
		{Path: "jobs[].target.all", Type: FieldBoolean, Default: "false", Doc: "Selects the whole hub; nothing else does.", Example: "true"},
	}
}

func methodFields() []Field {
	return []Field{
		{Path: "jobs[].method", Type: FieldText, Format: "method", Only: TypeDirectMethod, Synonyms: []string{"methodname"}, Doc: "The direct method to call.", Example: "lockDoor"},
		{Path: "jobs[].payload", Type: FieldJSON, Only: TypeDirectMethod, Synonyms: []string{"body", "args"}, Doc: "What the method is given: any value. Without it the call has no payload.", Example: "{lockTime: 10m}"},
		{Path: "jobs[].payloadFile", Type: FieldText, Only: TypeDirectMethod, Doc: "A JSON file beside the plan that holds the payload.", Example: "payload.json"},
		{Path: "jobs[].desired", Type: FieldJSONMap, Only: TypeUpdateTwin, Synonyms: []string{"properties"}, Doc: "Desired properties to merge into the twin; null deletes a key.", Example: "{building: 43, floor: 3}"},
		{Path: "jobs[].tags", Type: FieldJSONMap, Only: TypeUpdateTwin, Doc: "Tags to merge into the twin; null deletes a key.", Example: "{moved: true}"},
		{Path: "jobs[].confirm", Type: FieldObject, Planned: true, Only: TypeUpdateTwin, Doc: "Waits for the device to report what was desired.", Example: "{within: 15m}"},
		{Path: "jobs[].connectTimeout", Type: FieldDuration, Shared: true, Only: TypeDirectMethod, Default: "0s", Min: "0s", Max: "5m", Doc: "How long the hub waits for a device that is not connected.", Example: "10s"},
		{Path: "jobs[].responseTimeout", Type: FieldDuration, Shared: true, Only: TypeDirectMethod, Default: "30s", Min: "5s", Max: "5m", Synonyms: []string{"timeout"}, Doc: "How long the hub waits for the device's answer.", Example: "60s"},
		{Path: "jobs[].success", Type: FieldObject, Shared: true, Only: TypeDirectMethod, Doc: "Which answers of a device count as success.", Example: "{status: [200, 204]}"},
		{Path: "jobs[].success.status", Type: FieldStatuses, Default: "200-299", Min: "0", Max: "2147483647", Required: true, Doc: "The statuses: a number, a range, or a list of them.", Example: `[200, "210-219"]`},
		{Path: "jobs[].idempotent", Type: FieldBoolean, Shared: true, Only: TypeDirectMethod, Default: "false", Doc: "Says that a call which may have run may be sent again.", Example: "true"},
		{Path: "jobs[].offline", Type: FieldText, Shared: true, Only: TypeDirectMethod, Default: "fail", Values: []string{"fail", "skip", "wait"}, Doc: "What becomes of a device that is not online; wait tries until the deadline.", Example: "wait"},
	}
}

func policyFields() []Field {
	return []Field{
		{Path: "jobs[].concurrency", Type: FieldInteger, Shared: true, Default: "64", Min: "1", Max: "10000", Synonyms: []string{"parallel", "parallelism"}, Doc: "How many attempts of the job are under way at once.", Example: "32"},
		{Path: "jobs[].rate", Type: FieldRate, Shared: true, Min: "1/h", Max: "100000/s", Doc: "How many attempts start in a second, minute or hour.", Example: "40/s"},
		{Path: "jobs[].deadline", Type: FieldDuration, Shared: true, Min: "1s", Synonyms: []string{"maxexecutiontime", "maxexecutiontimeinseconds"}, Doc: "The job's time budget, from the moment it is due.", Example: "1h"},
		{Path: "jobs[].retry", Type: FieldObject, Shared: true, Synonyms: []string{"retries"}, Doc: "How often and how soon a device is tried again.", Example: "{attempts: 5, backoff: 2s, maxBackoff: 1m}"},
		{Path: "jobs[].retry.attempts", Type: FieldInteger, Default: "4", Min: "1", Max: "100", Synonyms: []string{"count", "max"}, Doc: "Attempts for one device, the first one included.", Example: "5"},
		{Path: "jobs[].retry.backoff", Type: FieldDuration, Default: "1s", Min: "1ms", Synonyms: []string{"delay"}, Doc: "The wait before the second attempt is at most this long; it doubles each time.", Example: "2s"},
		{Path: "jobs[].retry.maxBackoff", Type: FieldDuration, Default: "1m", Min: "1ms", Synonyms: []string{"maxdelay"}, Doc: "No wait is longer.", Example: "1m"},
	}
}

func rolloutFields() []Field {
	return []Field{
		{Path: "jobs[].window", Type: FieldObject, Shared: true, Planned: true, Doc: "The hours in which attempts may start.", Example: `{from: "02:00", to: "04:30", timezone: Europe/Paris}`},
		{Path: "jobs[].ifLate", Type: FieldText, Shared: true, Planned: true, Doc: "What to do when the time for the job has passed.", Example: "fail"},
		{Path: "jobs[].rollout", Type: FieldObject, Shared: true, Planned: true, Doc: "Slices of the target, each started when the one before went well.", Example: "{waves: [1, 10%, 100%], pause: 5m}"},
		{Path: "jobs[].tolerate", Type: FieldObject, Shared: true, Planned: true, Doc: "How many devices may miss for the job still to succeed.", Example: "{offline: 10%, failed: 0}"},
		{Path: "jobs[].engine", Type: FieldText, Shared: true, Planned: true, Doc: "Who fans out: this process, or the hub's own jobs service.", Example: "direct"},
	}
}

// table is the fields by the path of the mapping that holds them.
type table map[string][]Field

func newTable() table {
	t := table{}
	for _, f := range Fields() {
		f.key = f.Key()
		t[f.Parent()] = append(t[f.Parent()], f)
	}
	return t
}

// tablePath maps the place of a value to its path in the table: indexes go,
// and what stands under defaults is a job's.
func tablePath(place string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(place, "[")
		b.WriteString(before)
		if !found {
			break
		}
		b.WriteString("[]")
		_, place, _ = strings.Cut(rest, "]")
	}
	path := b.String()
	if path == "defaults" {
		return "jobs[]"
	}
	if rest, ok := strings.CutPrefix(path, "defaults."); ok {
		return "jobs[]." + rest
	}
	return path
}

// field returns the field at a place.
func (t table) field(place string) (Field, bool) {
	path := strings.TrimSuffix(tablePath(place), "[]")
	if place == "defaults" { // the field, not the job that its keys mirror
		path = place
	}
	for _, f := range t[Field{Path: path}.Parent()] {
		if f.Path == path {
			return f, true
		}
	}
	return Field{}, false
}

package fleet

// Section is one kind of mapping in a fleet file, with the keys it may have.
// The parser knows no other keys, and the reference is checked against this.
type Section struct {
	Name string // as messages and the reference call it
	Keys []Key
}

// Key is one key of a section.
type Key struct {
	Name string
	Type string // in words, as the reference shows it
	Doc  string // what it means, with its default
}

// Sections returns the fleet file, section by section.
func Sections() []Section {
	return []Section{
		fileSection(), groupSection(), moduleSection(), methodSection(), outcomeSection(),
		delaySection(), sharesSection(), followSection(), faultSection(), generatorSection(),
	}
}

func fileSection() Section {
	return Section{"fleet file", []Key{
		{"version", "1", "The version of this format. Required."},
		{"description", "string", "What the fleet is for."},
		{"seed", "integer", "Where all chance comes from; 1 unless given. The same seed gives the same fleet."},
		{"indexLag", "duration", "How long a write takes to show in queries; 0s unless given."},
		{"devices", "list of groups", "The devices, group by group. Required."},
		{"faults", "list of faults", "What goes wrong on the hub's side; nothing unless given."},
	}}
}

func groupSection() Section {
	return Section{"group", append([]Key{
		{"id", "string", "One device. A group has one of `id`, `ids` and `idPattern`."},
		{"ids", "list of strings", "Devices by name."},
		{"idPattern", "pattern", "Devices by number: `door-%06d` makes `door-000001`, `%d` is not padded, `%%` is a percent sign."},
		{"count", "integer", "How many devices the pattern makes, 1 to 1,000,000 in the whole fleet. Required with `idPattern`."},
		{"start", "integer", "The first number of the pattern; 1 unless given."},
		{"modules", "list of modules", "Modules that every device of the group has: an id, or a mapping."},
		{"shares", "shares", "Devices that are not healthy."},
		{"follow", "follow", "How reported properties follow desired ones; at once and faithfully unless given."},
	}, twinKeys()...)}
}

func moduleSection() Section {
	return Section{"module", append([]Key{
		{"id", "string", "The module's id. Required."},
	}, twinKeys()...)}
}

func twinKeys() []Key {
	return []Key{
		{"tags", "template", "The twin's tags."},
		{"desired", "template", "The twin's desired properties."},
		{"reported", "template", "The twin's reported properties."},
		{"methods", "mapping of names to methods", "What devices answer. The name `*` stands for every other method; without it a method that is not listed is answered 501. A module that gives none answers as its device does."},
	}
}

func methodSection() Section {
	return Section{"method", append([]Key{
		{"outcomes", "list of outcomes", "Several ways in which a call may go, instead of the keys below."},
	}, answerKeys()...)}
}

func outcomeSection() Section {
	return Section{"outcome", append([]Key{
		{"weight", "number", "How often this outcome is drawn, relative to the others; 1 unless given."},
		{"calls", "call numbers", "Only for these calls of a device: `1`, `2-5` or `3-`. Outcomes that name the call come before those that name none."},
	}, answerKeys()...)}
}

func answerKeys() []Key {
	return []Key{
		{"does", "answers, hangs, garbage or disconnects", "What the device does with the call; `answers` unless given."},
		{"status", "integer", "The status it answers; 200 unless given."},
		{"payload", "template", "The payload it answers; none unless given."},
		{"latency", "delay", "How long it takes; no time unless given."},
	}
}

func delaySection() Section {
	return Section{"delay", []Key{
		{"uniform", "{from, to}", "Any duration between the two, equally likely."},
		{"normal", "{mean, deviation}", "A bell curve, cut off at 0."},
		{"lognormal", "{median, p99}", "Mostly near the median, with a long tail: what networks do."},
		{"percentiles", "{p50: ..., p99: ...}", "Straight lines between the percentiles given, at least two."},
	}}
}

func sharesSection() Section {
	return Section{"shares", []Key{
		{"offline", "share", "Never online."},
		{"late", "{share, after}", "Online only `after` a delay from the start."},
		{"flapping", "{share, every, away}", "Offline for `away` of every period `every`, each device with a phase of its own."},
		{"rejecting", "share or {share, status, payload}", "Answers every method with `status` (500 unless given) and `payload`."},
		{"slow", "{share, latency}", "Answers with this latency instead of the method's."},
		{"hanging", "share", "Takes calls and never answers."},
		{"garbage", "share", "Answers what is not JSON."},
		{"disconnecting", "share", "Closes its connection instead of answering."},
	}}
}

func followSection() Section {
	return Section{"follow", []Key{
		{"share", "share", "Of the group; all of it unless given. Whoever is in no entry follows at once."},
		{"after", "delay", "How long it takes; no time unless given."},
		{"never", "boolean", "Nothing is reported."},
		{"wrong", "true or values", "Something else is reported: every value spoiled, or these values in place of the truth."},
	}}
}

func faultSection() Section {
	return Section{"fault", []Key{
		{"fault", "kind of fault", "What goes wrong. Required."},
		{"operations", "list of operations", "Only calls of these kinds; all that services make unless given."},
		{"devices", "list of ids", "Only calls that address these devices; a trailing `*` stands for any ending."},
		{"calls", "call numbers", "Only these calls, such as `1` or `2-5`: counted for each operation, by device where a call addresses one, else by hub."},
		{"share", "share", "Of the calls that fit; 100% unless given."},
		{"from", "duration", "Only from this time after the start, or after the faults were replaced."},
		{"until", "duration", "Only before this time, counted likewise."},
		{"wait", "duration", "What `throttled` asks the caller to wait; 10s unless given."},
		{"latency", "delay", "How long the answer, or the fault, takes. Required with `slow`."},
	}}
}

func generatorSection() Section {
	return Section{"generator", []Key{
		{"$cycle", "list of templates", "One after the other, by the device's index."},
		{"$oneOf", "list of templates", "One of them, all equally often."},
		{"$weighted", "list of {weight, value}", "One of them, as often as its weight says."},
		{"$random", "{from, to, digits}", "A number from `from` to `to`, rounded to `digits` (0 unless given) after the point."},
	}}
}

func (s Section) names() []string {
	names := make([]string, len(s.Keys))
	for i, k := range s.Keys {
		names[i] = k.Name
	}
	return names
}

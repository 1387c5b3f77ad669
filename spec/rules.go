package spec

// Rule is the stable name of a check. Names are promised: scripts filter by
// them.
type Rule string

// The rules. Rules says what each is about.
const (
	RuleFileSize     Rule = "file-size"
	RuleEncoding     Rule = "encoding"
	RuleHidden       Rule = "invisible-character"
	RuleSyntax       Rule = "yaml-syntax"
	RuleEmpty        Rule = "empty-plan"
	RuleDocuments    Rule = "multiple-documents"
	RuleNesting      Rule = "nesting"
	RuleAlias        Rule = "alias-expansion"
	RuleMergeKey     Rule = "merge-key"
	RuleTag          Rule = "yaml-tag"
	RuleDuplicateKey Rule = "duplicate-key"
	RuleUnknownKey   Rule = "unknown-key"
	RuleTooMany      Rule = "too-many-findings"
	RuleType         Rule = "wrong-type"
	RuleValue        Rule = "wrong-value"
	RuleRange        Rule = "out-of-range"
	RuleNumber       Rule = "number"
	RuleRequired     Rule = "required"
	RuleJobType      Rule = "other-job-type"
	RuleExclusive    Rule = "exclusive"
	RuleNameTaken    Rule = "duplicate-name"
	RuleSecret       Rule = "secret-in-plan"
	RuleMaybeSecret  Rule = "possible-secret"
	RuleUnits        Rule = "hub-units"
	RuleHubs         Rule = "hubs"
	RuleVarValue     Rule = "variable-value"
	RuleUnusedVar    Rule = "unused-variable"
	RulePlaceholder  Rule = "placeholder"
	RuleTarget       Rule = "target"
	RuleDeviceID     Rule = "device-id"
	RuleFile         Rule = "file"
	RuleQuery        Rule = "query-syntax"
	RuleQueryName    Rule = "query-name"
	RuleQueryNever   Rule = "query-never"
	RuleQueryLength  Rule = "query-length"
	RulePayloadSize  Rule = "payload-size"
	RuleJSONInString Rule = "json-in-string"
	RuleAmbiguous    Rule = "ambiguous-value"
	RuleTwinKey      Rule = "twin-key"
	RuleTwinInteger  Rule = "twin-integer"
	RuleTwinDepth    Rule = "twin-depth"
	RuleTwinNull     Rule = "twin-null"
	RuleTwinSize     Rule = "twin-size"
	RuleEmptyPatch   Rule = "empty-patch"
	RuleConfirm      Rule = "confirm"
	RuleRetry        Rule = "retry"
	RuleOfflineWait  Rule = "offline-wait"
	RuleNeeds        Rule = "needs"
	RuleWindow       Rule = "window"
	RuleLate         Rule = "if-late"
	RuleWaves        Rule = "waves"
	RuleClock        Rule = "clock-change"
	RuleEngine       Rule = "engine"
)

// RuleInfo describes a rule.
type RuleInfo struct {
	ID Rule
	// Severity of its findings. Warnings are limits that the service may move,
	// and things that are right for some.
	Severity Severity
	Doc      string
}

// Rules lists every rule in the order of the documentation.
func Rules() []RuleInfo {
	return []RuleInfo{
		{RuleFileSize, SeverityError, "The plan is larger than 5 MB, or holds more values than a plan may."},
		{RuleEncoding, SeverityError, "The file is not UTF-8, or holds control characters or line breaks that few editors show."},
		{RuleHidden, SeverityWarning, "A character cannot be seen and changes how the text is read or compared."},
		{RuleSyntax, SeverityError, "The file is not YAML."},
		{RuleEmpty, SeverityError, "There is nothing in the file."},
		{RuleDocuments, SeverityError, "The file holds several YAML documents."},
		{RuleNesting, SeverityError, "Values are nested more than 100 levels deep."},
		{RuleAlias, SeverityError, "Aliases refer to themselves, or expand to too many values."},
		{RuleMergeKey, SeverityError, "A merge key (<<) is used; defaults serve instead."},
		{RuleTag, SeverityError, "A value carries an explicit YAML tag other than !!str."},
		{RuleDuplicateKey, SeverityError, "A key stands twice in one mapping."},
		{RuleUnknownKey, SeverityError, "The plan language has no such key at this place."},
		{RuleTooMany, SeverityError, "There are more findings than are shown."},
		{RuleType, SeverityError, "A value is of another type than the field takes."},
		{RuleValue, SeverityError, "A value is of the right type, but none that the field takes."},
		{RuleRange, SeverityError, "A number, a duration or a rate is beyond the field's limits."},
		{RuleNumber, SeverityError, "A number is written in a form that YAML readers disagree on, or that JSON cannot hold."},
		{RuleRequired, SeverityError, "A field that the mapping needs is missing."},
		{RuleJobType, SeverityError, "The field belongs to the other type of job."},
		{RuleExclusive, SeverityError, "Two fields exclude each other."},
		{RuleNameTaken, SeverityError, "Two jobs have the same name."},
		{RuleSecret, SeverityError, "The plan, a comment or a file that it names holds a key, a token or a connection string."},
		{RuleMaybeSecret, SeverityWarning, "A text has the form of a hub's key; it may be a checksum."},
		{RuleUnits, SeverityError, "The units do not fit the sku."},
		{RuleHubs, SeverityError, "A hub stands twice."},
		{RuleVarValue, SeverityError, "A variable has no value, or one that is not of its type, or a value is given for none."},
		{RuleUnusedVar, SeverityWarning, "A variable is declared and never used."},
		{RulePlaceholder, SeverityError, "A ${...} is malformed, names nothing that exists, or stands where its value is not known."},
		{RuleTarget, SeverityError, "The target selects nothing, the whole hub without saying so, or the same device twice."},
		{RuleDeviceID, SeverityError, "A device or module id has characters that the hub does not take."},
		{RuleFile, SeverityError, "A file that the plan names cannot be read or does not hold what it should."},
		{RuleQuery, SeverityError, "The hub would refuse the query."},
		{RuleQueryName, SeverityWarning, "The query names a property that no twin has, or a function that is not documented for twins."},
		{RuleQueryNever, SeverityWarning, "The query can match no device."},
		{RuleQueryLength, SeverityWarning, "The query is longer than the hub takes."},
		{RulePayloadSize, SeverityWarning, "The payload is larger than the hub takes."},
		{RuleJSONInString, SeverityWarning, "The payload is a text that holds JSON; the device gets a string."},
		{RuleAmbiguous, SeverityWarning, "A plain value that older YAML reads in another way than it is sent: yes, no, on and off as booleans, 1e20 as a text."},
		{RuleTwinKey, SeverityError, "A key of a twin has characters that the hub does not take."},
		{RuleTwinInteger, SeverityError, "A whole number is beyond what the hub keeps in a twin."},
		{RuleTwinDepth, SeverityError, "Objects are nested deeper than the hub keeps them in a twin."},
		{RuleTwinNull, SeverityError, "A null stands inside an array, where the hub takes none."},
		{RuleTwinSize, SeverityWarning, "A key, a text or a section is larger than the hub keeps in a twin."},
		{RuleEmptyPatch, SeverityError, "A section of a twin job is empty."},
		{RuleConfirm, SeverityError, "There is nothing to confirm."},
		{RuleRetry, SeverityError, "The first wait between attempts is longer than the longest."},
		{RuleOfflineWait, SeverityError, "A job waits for offline devices without a deadline."},
		{RuleNeeds, SeverityError, "A job needs one that does not exist, needs it twice, or jobs wait for each other."},
		{RuleWindow, SeverityError, "A window never opens, or lists a day twice."},
		{RuleLate, SeverityError, "ifLate stands in a job that cannot be late."},
		{RuleClock, SeverityWarning, "A local time that the clocks skip, or show twice."},
		{RuleWaves, SeverityError, "The waves of a rollout do not rise to 100%, or its stop rule never stops."},
		{RuleEngine, SeverityError, "The job asks the hub's own jobs service for what it cannot do."},
	}
}

// Severities returns the severity of each rule.
func Severities() map[Rule]Severity {
	all := map[Rule]Severity{}
	for _, r := range Rules() {
		all[r.ID] = r.Severity
	}
	return all
}

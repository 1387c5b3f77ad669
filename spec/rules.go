package spec

// Rule is the stable name of a check. Names are promised: scripts filter by
// them.
type Rule string

// The rules, in the order of the documentation.
const (
	RuleFileSize     Rule = "file-size"
	RuleEncoding     Rule = "encoding"
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
	RuleRequired     Rule = "required"
	RuleUnsupported  Rule = "not-supported-yet"
	RuleJobType      Rule = "other-job-type"
	RuleExclusive    Rule = "exclusive"
	RuleNameTaken    Rule = "duplicate-name"
	RuleSecret       Rule = "secret-in-plan"
	RuleMaybeSecret  Rule = "possible-secret"
	RuleTarget       Rule = "target"
	RuleDeviceID     Rule = "device-id"
	RuleQuery        Rule = "query-syntax"
	RuleQueryLength  Rule = "query-length"
	RuleQueryName    Rule = "query-name"
	RuleQueryNever   Rule = "query-never"
	RuleFile         Rule = "file"
	RulePlaceholder  Rule = "placeholder"
	RuleVarValue     Rule = "variable-value"
	RuleUnusedVar    Rule = "unused-variable"
	RuleNeeds        Rule = "needs"
	RuleConfirm      Rule = "confirm"
	RuleWindow       Rule = "window"
	RuleLate         Rule = "if-late"
	RuleWaves        Rule = "waves"
	RuleEngine       Rule = "engine"
	RuleHubs         Rule = "hubs"
	RulePayloadSize  Rule = "payload-size"
	RuleJSONInString Rule = "json-in-string"
	RuleAmbiguous    Rule = "ambiguous-value"
	RuleNumber       Rule = "number"
	RuleTwinKey      Rule = "twin-key"
	RuleTwinInteger  Rule = "twin-integer"
	RuleTwinDepth    Rule = "twin-depth"
	RuleTwinNull     Rule = "twin-null"
	RuleTwinSize     Rule = "twin-size"
	RuleEmptyPatch   Rule = "empty-patch"
	RuleUnits        Rule = "hub-units"
	RuleRetry        Rule = "retry"
	RuleOfflineWait  Rule = "offline-wait"
)

// severity tells whether a rule's findings leave the plan valid: limits that the
// service may move, and things that are right for some.
func (r Rule) severity() Severity {
	switch r { //nolint:exhaustive // every other rule is an error
	case RuleMaybeSecret, RuleQueryLength, RulePayloadSize, RuleJSONInString, RuleAmbiguous, RuleTwinSize, RuleQueryName, RuleQueryNever, RuleUnusedVar:
		return SeverityWarning
	}
	return SeverityError
}

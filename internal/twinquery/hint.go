package twinquery

import "strings"

const acceptedFunctions = "the hub knows IS_DEFINED, STARTSWITH, ENDSWITH and ARRAY_CONTAINS"

// wrongSign is a sign of some other language, and what stands for it here.
type wrongSign struct{ sign, hint string }

func wrongSigns() []wrongSign {
	const straight = `strings stand in straight quotes, 'like this' or "like this"`
	return []wrongSign{
		{"==", "equality is written ="},
		{"=>", "at least is written >="},
		{"=<", "at most is written <="},
		{"&&", "write AND"},
		{"||", "write OR"},
		{"!", "write NOT, or != for unequal"},
		{"‘", straight},
		{"’", straight},
		{"“", straight},
		{"”", straight},
		{"`", straight},
		{";", "a query is one statement and ends without a semicolon"},
		{"{", "a list stands in square brackets, a placeholder must be filled in before"},
	}
}

// functionHint says what to write instead of a function that the hub does not
// offer for twins. The list is that of the message routing language, which
// shares the documentation with twin queries and little else. It is empty for a
// function that stands in neither.
func functionHint(name string) string {
	const routing = " is only in message routing; " + acceptedFunctions
	switch upper := asciiUpper(name); upper {
	case "STARTS_WITH", "STARTWITH", "BEGINSWITH":
		return "use STARTSWITH"
	case "ENDS_WITH", "ENDWITH":
		return "use ENDSWITH"
	case "ISDEFINED", "IS_DEF", "DEFINED", "EXISTS", "HAS":
		return "use IS_DEFINED"
	case "IS_NULL", "ISNULL":
		return "compare with = null; IS_NULL" + routing
	case "IS_STRING", "IS_NUMBER", "IS_BOOL", "IS_OBJECT", "IS_ARRAY", "IS_PRIMITIVE", "IS_INTEGER",
		"CONCAT", "LENGTH", "LOWER", "UPPER", "SUBSTRING", "INDEX_OF", "CONTAINS", "AS_NUMBER",
		"ABS", "EXP", "POWER", "SQUARE", "CEILING", "FLOOR", "SIGN", "SQRT":
		return upper + routing
	}
	return ""
}

// wordHint explains a word where the grammar wants an operator or the end.
func wordHint(word string) string {
	switch asciiUpper(word) {
	case "LIKE":
		return "the hub has no LIKE: use STARTSWITH(path, 'text') or ENDSWITH(path, 'text')"
	case "BETWEEN":
		return "write path >= low AND path <= high"
	case "IS":
		return "write path = null, or IS_DEFINED(path)"
	case "ORDER":
		return "the hub does not sort: there is no ORDER BY"
	case "HAVING":
		return "there is no HAVING: filter with WHERE"
	case "LIMIT", "OFFSET", "FETCH", "SKIP":
		return "write SELECT TOP n at the start"
	case "JOIN", "INNER", "LEFT":
		return "there are no joins"
	case "UNION":
		return "there is no UNION: send two queries"
	case "EQ", "EQUALS":
		return "equality is written ="
	case "XOR", "CONTAINS", "MATCHES", "REGEXP":
		return "the operators are = != <> < > <= >= AND OR NOT IN NIN + - * / %"
	case "WHERE":
		return "there is one WHERE, and it stands right after FROM and its collection"
	}
	return ""
}

// unknownNameHint explains a name that no twin has.
func unknownNameHint(name string, segments int) string {
	const full = "tags and properties need their full path"
	switch {
	case asciiUpper(name) == "DESIRED" || asciiUpper(name) == "REPORTED":
		return "did you mean properties." + strings.ToLower(name) + "?"
	case asciiUpper(name) == "TAG":
		return "did you mean tags?"
	case asciiUpper(name) == "PROPERTY":
		return "did you mean properties?"
	case asciiUpper(name) == "ID" || asciiUpper(name) == "DEVICE":
		return "did you mean deviceId?"
	case segments > 1:
		return full
	}
	return full + ": tags." + name + ", properties.desired." + name + " or properties.reported." + name +
		"; a text needs quotes, as in '" + name + "'; a key with a dash is written [[key-with-dash]]"
}

// Package twinquery reads the twin query language of IoT Hub: it parses a
// query or a bare condition with positions, and evaluates it on one twin.
//
// [Parse] takes a whole SELECT, [ParseCondition] the part after WHERE. Both
// end in an [*Error] that says where in the text the fault is and, where there
// is one, what the hub would accept instead. What they return is immutable and
// safe for concurrent use, and [Condition.Match] allocates nothing: a fleet of
// a million devices is filtered with one parsed condition.
//
// # Semantics
//
// A condition holds only when it is exactly true. A comparison needs two
// values of the same primitive type; anything else, a missing property above
// all, gives undefined, and that includes != and <>. AND, OR and NOT follow
// three-valued logic in which everything that is not a boolean is undefined,
// so NOT (tags.missing = 1) does not hold: only IS_DEFINED sees what is
// missing. Arithmetic works on numbers and gives undefined otherwise, also for
// a division by zero. IN asks for an element that equals the value, NIN for
// none; both are undefined for a value that is missing, an object or an array.
//
// Keywords, functions, collections and the names of system properties are
// accepted in any case and reach a [Doc] in the case that the hub's documents
// use; keys of tags and properties are case-sensitive.
//
// # What the documentation leaves open
//
// Precedence follows SQL: OR, AND, NOT, comparison and IN, + and -, then *, /
// and %. The key of a projected path without alias is governed by [KeyRule].
// A key that is no plain name, or is a keyword, is written [[key]].
package twinquery

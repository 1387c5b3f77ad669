package hubtest

import "slices"

// cases lists every promise, in the order of the protocol notes.
func cases() []testCase {
	return slices.Concat(accessCases(), queryCases(), twinCases(), patchCases(), methodCases())
}

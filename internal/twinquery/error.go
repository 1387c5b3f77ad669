package twinquery

import "fmt"

// Error is a fault in a query text. Offset and End are byte offsets into that
// text, 0 <= Offset <= End <= len(text); they are equal where something is
// missing, at the end of the text above all.
type Error struct {
	Offset  int
	End     int
	Message string // what is wrong
	Hint    string // what would be accepted; may be empty
}

// Error gives the offset, the message and the hint on one line.
func (e *Error) Error() string {
	if e.Hint == "" {
		return fmt.Sprintf("query offset %d: %s", e.Offset, e.Message)
	}
	return fmt.Sprintf("query offset %d: %s (%s)", e.Offset, e.Message, e.Hint)
}

func at(t token, hint, format string, args ...any) *Error {
	return &Error{Offset: t.start, End: t.end, Message: fmt.Sprintf(format, args...), Hint: hint}
}

package runner

import "testing"

// A panic on a goroutine of a run is handed on with its stack.
func TestGuarded(t *testing.T) {
	var told any
	f := guarded(func(value any, stack []byte) {
		if told = value; len(stack) == 0 {
			t.Error("there is no stack")
		}
	}, func() { panic("a test asked for it") })
	if f(); told != "a test asked for it" {
		t.Errorf("told of %v", told)
	}
}

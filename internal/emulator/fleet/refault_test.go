package fleet_test

import (
	"strings"
	"testing"

	"iothub-runner/internal/emulator/fleet"
)

func TestWithFaults(t *testing.T) {
	f := fleet.Default()
	call := fleet.Call{Operation: fleet.OpMethod, Device: 0, NthOfDevice: 1, NthOfHub: 1}
	broken, err := f.WithFaults("faults", []byte(`[{fault: serverError, devices: [myDevice]}]`))
	if err != nil {
		t.Fatalf("WithFaults: %v", err)
	}
	if got, ok := broken.Fault(call, 0); !ok || got.Kind != fleet.FaultServerError {
		t.Errorf("Fault = %v, %v, want a server error", got, ok)
	}
	if _, ok := f.Fault(call, 0); ok {
		t.Error("the fleet it was called on has changed")
	}
	if r := broken.Invoke(0, "lockDoor", 1, nil); r.Status != 200 {
		t.Errorf("the device answers %d, want 200 as before", r.Status)
	}
	mended, err := broken.WithFaults("faults", []byte(`[]`))
	if err != nil {
		t.Fatalf("WithFaults: %v", err)
	}
	if got, ok := mended.Fault(call, 0); ok {
		t.Errorf("Fault = %v, want none", got)
	}
	_, err = f.WithFaults("faults", []byte(`[{fault: explode}, {fault: serverError, devices: [nobody]}]`))
	if err == nil || !strings.Contains(err.Error(), "explode") || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("WithFaults of two mistakes: %v, want both named", err)
	}
}

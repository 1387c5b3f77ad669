package target

import (
	"errors"
	"fmt"
	"strings"

	"iothub-runner/spec"
)

// WrongHubError means that the plan, or the pinned preview of one, is for
// another hub than the one at hand.
type WrongHubError struct {
	Want, Have string
	Pinned     bool // it is the preview that says so
}

// Error names both.
func (e *WrongHubError) Error() string {
	if e.Pinned {
		return fmt.Sprintf("the pinned preview was made on hub %s, this is %s", e.Want, e.Have)
	}
	return fmt.Sprintf("the plan is for hub %s, the connection string is for %s", e.Want, e.Have)
}

// CheckHubs refuses a hub that the plan is not for.
func CheckHubs(plan *spec.Plan, hubs []NamedHub, rehearsal bool) error {
	if len(hubs) == 0 {
		return errors.New("no hub to apply the plan to")
	}
	if rehearsal {
		return nil
	}
	for i, h := range hubs {
		want := plan.Hub.HostName
		if len(plan.Hubs) > 0 {
			want = plan.Hubs[i].HostName
		}
		if want != "" && !strings.EqualFold(want, h.Name) {
			return &WrongHubError{Want: want, Have: h.Name}
		}
	}
	return nil
}

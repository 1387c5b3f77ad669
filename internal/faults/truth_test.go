package faults_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"iothub-runner/internal/emulator"
	"iothub-runner/spec"
)

// checkReport holds a report against what the hub says that happened: nothing
// lost, nothing made up, nothing done twice.
func checkReport(tb testing.TB, hub *emulator.Server, each int, rep spec.Report) {
	tb.Helper()
	if len(rep.Jobs) != 3 {
		tb.Fatalf("the report has %d jobs, want 3", len(rep.Jobs))
	}
	for i := range rep.Jobs {
		checkComplete(tb, each, &rep.Jobs[i])
	}
	checkRows(tb, hub, rep)
}

// checkRows holds the rows alone against the hub, for a run that ended before
// all were listed.
func checkRows(tb testing.TB, hub *emulator.Server, rep spec.Report) {
	tb.Helper()
	for i := range rep.Jobs {
		for j := range rep.Jobs[i].Devices {
			row := &rep.Jobs[i].Devices[j]
			if wrong := wrongRow(hub, rep.Jobs[i].Name, row); wrong != "" {
				text, _ := json.Marshal(row)
				tb.Errorf("job %s, %s: %s\n%s", rep.Jobs[i].Name, row.DeviceID, wrong, text)
			}
		}
	}
	for id, e := range hub.EachExecuted {
		if strings.HasPrefix(id, roleBystander) {
			tb.Errorf("%s is nobody's target and executed %+v", id, e)
		}
	}
}

// checkComplete fails if a job has not exactly one row for each of its devices,
// or does not count them.
func checkComplete(tb testing.TB, each int, job *spec.JobReport) {
	tb.Helper()
	var have []string
	counted := map[spec.Outcome]int{}
	for i := range job.Devices {
		have = append(have, job.Devices[i].DeviceID)
		counted[job.Devices[i].Outcome]++
	}
	if diff := cmp.Diff(idsOf(job.Name, each), have); diff != "" {
		tb.Errorf("rows of job %s (-devices +rows):\n%s", job.Name, diff)
	}
	if diff := cmp.Diff(counted, job.Outcomes); diff != "" {
		tb.Errorf("job %s counts other outcomes than its rows have (-rows +outcomes):\n%s", job.Name, diff)
	}
	if job.Targets != each {
		tb.Errorf("job %s has %d targets, want %d", job.Name, job.Targets, each)
	}
}

// idsOf returns the devices of a role in the order of reports.
func idsOf(role string, each int) []string {
	var ids []string
	add := func(prefix string, count int) {
		for n := range count {
			ids = append(ids, fmt.Sprintf("%s-%06d", prefix, n+1))
		}
	}
	if role != roleTwin {
		add(role, each)
		return ids
	}
	add("same", each/10)
	add(roleTwin, each-each/10)
	return ids
}

// wrongRow returns what a row says that is not so; "" if all is true.
func wrongRow(hub *emulator.Server, job string, row *spec.Row) string {
	e := hub.Executed(row.DeviceID)
	if job == roleTwin {
		return wrongTwinRow(hub, e, row)
	}
	if e.Patches != 0 {
		return fmt.Sprintf("the twin was patched %d times, which no job asks for", e.Patches)
	}
	if wrong := wrongCount(e.Methods, mostCalls(job, row), row.Outcome); wrong != "" {
		return wrong
	}
	if row.Outcome != spec.OutcomeSucceeded {
		return ""
	}
	if want := fmt.Sprintf(`{"door":%q}`, row.DeviceID); row.Method == nil || string(row.Method.Payload) != want {
		return "it has the answer of another device, or none; want " + want
	}
	return ""
}

// mostCalls is how often a device may have acted: once, and when that does no
// harm once for each attempt that the row owns up to.
func mostCalls(job string, row *spec.Row) int {
	if job == roleAgain {
		return row.Attempts
	}
	return 1
}

// wrongCount holds an outcome against how often a device acted.
func wrongCount(acted, asked int, o spec.Outcome) string {
	least, most := bounds(o, asked)
	if acted < least || acted > most {
		return fmt.Sprintf("%s, but the device acted %d times, want %d to %d", o, acted, least, most)
	}
	return ""
}

// bounds is how often a device acted whose outcome is true. Asked is how often it
// was asked to.
func bounds(o spec.Outcome, asked int) (least, most int) {
	switch o {
	case spec.OutcomeSucceeded, spec.OutcomeRejected, spec.OutcomeUnconfirmed:
		return 1, asked
	case spec.OutcomeUnanswered:
		return 0, asked
	case spec.OutcomeUnchanged, spec.OutcomeFailed, spec.OutcomeOffline, spec.OutcomeSkipped, spec.OutcomeNotReached:
	}
	return 0, 0
}

// wrongTwinRow does the same for a row of the twin job. A patch carries the etag
// of what it was computed from, so even one that is sent again acts once.
func wrongTwinRow(hub *emulator.Server, e emulator.Executed, row *spec.Row) string {
	if e.Methods != 0 {
		return fmt.Sprintf("it took %d calls, which no job asks for", e.Methods)
	}
	if wrong := wrongCount(e.Patches, 1, row.Outcome); wrong != "" {
		return wrong
	}
	var number int
	prefix, digits, _ := strings.Cut(row.DeviceID, "-")
	if _, err := fmt.Sscanf(digits, "%d", &number); err != nil {
		return err.Error()
	}
	if prefix == "same" && row.Outcome == spec.OutcomeSucceeded {
		return "there was nothing to patch"
	}
	if wrong := wrongFinal(hub, e, row, number); wrong != "" || row.Outcome != spec.OutcomeSucceeded {
		return wrong
	}
	return wrongBefore(row, map[string]any{
		"tags": map[string]any{"moved": nil}, "desired": map[string]any{"floor": float64(number)},
	})
}

// wrongFinal holds the twin as it is now against the outcome. Floor is where it
// was before.
func wrongFinal(hub *emulator.Server, e emulator.Executed, row *spec.Row, floor int) string {
	text, ok := hub.Twin(row.DeviceID)
	if !ok {
		return "there is no such twin"
	}
	var twin struct {
		ETag string `json:"etag"`
		Tags struct {
			Moved bool `json:"moved"`
		} `json:"tags"`
		Properties struct {
			Desired struct {
				Floor int `json:"floor"`
			} `json:"desired"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(text, &twin); err != nil {
		return err.Error()
	}
	want, moved := wantedFloor, true
	if e.Patches == 0 && row.Outcome != spec.OutcomeUnchanged && !strings.HasPrefix(row.DeviceID, "same") {
		want, moved = floor, false
	}
	if twin.Properties.Desired.Floor != want || twin.Tags.Moved != moved {
		return fmt.Sprintf("%s, but the twin has floor %d, moved %t", row.Outcome, twin.Properties.Desired.Floor, twin.Tags.Moved)
	}
	if row.Outcome == spec.OutcomeSucceeded && row.Twin != nil && row.Twin.ETag != twin.ETag {
		return fmt.Sprintf("etag %q, but the twin has %q", row.Twin.ETag, twin.ETag)
	}
	return ""
}

func wrongBefore(row *spec.Row, want map[string]any) string {
	if row.Twin == nil || row.Twin.Before == nil {
		return "no before-values"
	}
	text, err := json.Marshal(row.Twin.Before)
	if err != nil {
		return err.Error()
	}
	var have map[string]any
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&have); err != nil {
		return err.Error()
	}
	if diff := cmp.Diff(want, have); diff != "" {
		return "before-values that the twin never had (-twin +row):\n" + diff
	}
	return ""
}

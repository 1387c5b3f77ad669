package faults_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"iothub-runner/internal/emulator"
	"iothub-runner/spec"
)

// stagesPlan has two jobs that patch the same twins at once, a call that is
// filled in from the twin and waits for devices, and one that comes after it.
const stagesPlan = `version: 1
name: stages
defaults: {concurrency: 16, retry: {attempts: 4, backoff: 20ms, maxBackoff: 200ms}, responseTimeout: 5s}
jobs:
  - {name: move, type: updateTwin, target: tags.role = 'twin', desired: {floor: 9000}}
  - {name: tag, type: updateTwin, target: tags.role = 'twin', tags: {site: B}}
  - name: first
    type: directMethod
    target: tags.role = 'once'
    method: lockDoor
    payload: {door: "${device.id}", role: "${device.tags.role}"}
    offline: wait
    deadline: 5m
  - name: second
    type: directMethod
    target: tags.role = 'once'
    needs: [{job: first, if: always}]
    method: lockDoor
    payload: {again: "${device.id}"}
    offline: wait
    deadline: 5m
`

// stagesEach is how many devices each job of it has.
const stagesEach = 100

// TestKillStages kills runs of such a plan, every other as a pinned preview. Some
// are interrupted instead, and then named by their reports.
func TestKillStages(t *testing.T) {
	t.Parallel()
	source := seedOfRuns()
	for n := range *kills {
		pinned := n%2 == 0
		t.Run(fmt.Sprintf("%d pinned %t", n+1, pinned), func(t *testing.T) {
			t.Parallel()
			t.Logf("to repeat the instants: -seed %d -kills %d", source, *kills)
			killStages(t, rand.New(rand.NewPCG(source, uint64(n))), pinned)
		})
	}
}

func killStages(t *testing.T, chance *rand.Rand, pinned bool) {
	t.Helper()
	w := world{
		each:   stagesEach,
		method: ", latency: {uniform: {from: 1ms, to: 30ms}}",
		group:  "shares: {late: {share: 10%, after: 1s}}",
		faults: "{fault: slow, operations: [twinWrite], latency: {uniform: {from: 1ms, to: 20ms}}}, {fault: resetAfter, share: 5%, operations: [twinWrite]}",
	}
	hub := w.start(t)
	p := newProcess(t, hub, stagesPlan)
	if pinned {
		p.pin(t)
	}
	for range 1 + chance.IntN(4) {
		const all = 4 * stagesEach // acts in a whole run, nearly
		at := instant{acts: acts(hub) + chance.IntN(max(1, (all-acts(hub))*3/4))}
		if chance.IntN(3) == 0 {
			p.interruptAt(t.Context(), t, at)
		} else {
			p.killAt(t.Context(), t, at)
		}
		t.Logf("%d acts after %+v, exit code %d\n%s", acts(hub), at, p.code, p.stderr)
		if p.ended {
			break
		}
	}
	if !p.ended {
		p.finish(t.Context(), t)
	}
	rep := readReport(t, p.path("report.json"))
	checkStages(t, hub, rep, p)
	if want := exitOf(rep); p.code != want {
		t.Errorf("exit code %d, want %d\n%s", p.code, want, p.stderr)
	}

	// Whoever goes on with what has ended finds nothing to do.
	before := acts(hub)
	p.finish(t.Context(), t)
	again := readReport(t, p.path("report.json"))
	checkStages(t, hub, again, p)
	if acts(hub) != before {
		t.Errorf("devices acted %d times when a run was resumed that had ended", acts(hub)-before)
	}
	if a, b := rep.Summary, again.Summary; a.Attempts != b.Attempts || a.Retries != b.Retries {
		t.Errorf("%d attempts and %d retries, %d and %d when nothing was left to do", a.Attempts, a.Retries, b.Attempts, b.Retries)
	}
}

// exitOf is the code that a finished run has to end with.
func exitOf(rep spec.Report) int {
	if rep.Summary.Outcomes[spec.OutcomeUnanswered] > 0 {
		return 1
	}
	return 0
}

// checkStages holds the report against the hub. The journal knows which patches
// are to be looked up, so that none stays in doubt.
func checkStages(t *testing.T, hub *emulator.Server, rep spec.Report, p *process) {
	t.Helper()
	sure, doubted := map[string]int{}, map[string]int{}
	for i := range rep.Jobs {
		job := &rep.Jobs[i]
		checkCounts(t, job)
		for _, row := range job.Devices {
			asWanted := row.Outcome == spec.OutcomeUnchanged && job.Name == "move" && strings.HasPrefix(row.DeviceID, "same")
			switch {
			case row.Outcome == spec.OutcomeSucceeded:
				sure[row.DeviceID]++
			case row.Outcome == spec.OutcomeUnanswered && job.Type == spec.TypeDirectMethod:
				doubted[row.DeviceID]++
			case !asWanted: // nobody else has changed a twin
				t.Errorf("job %s: %s is %s: %+v", job.Name, row.DeviceID, row.Outcome, row.Error)
			}
		}
		if n := job.Outcomes[spec.OutcomeUnanswered]; n > (p.kills+p.reports)*concurrency {
			t.Errorf("job %s: %d unanswered after %d kills and %d interruptions", job.Name, n, p.kills, p.reports)
		}
	}
	for id, e := range hub.EachExecuted {
		if n := e.Methods + e.Patches; n < sure[id] || n > sure[id]+doubted[id] {
			t.Errorf("%s acted %d times, %d rows say that it did and %d that it may have", id, n, sure[id], doubted[id])
		}
		if e.Patches > 0 && doubted[id] == 0 {
			checkTwin(t, hub, id)
		}
	}
}

// checkCounts holds the counts of a job against its rows.
func checkCounts(t *testing.T, job *spec.JobReport) {
	t.Helper()
	attempts, retries := 0, 0
	for _, row := range job.Devices {
		attempts += row.Attempts
		retries += max(0, row.Attempts-1)
	}
	if attempts != job.Attempts || retries != job.Retries || len(job.Devices) != stagesEach {
		t.Errorf("job %s: %d rows with %d attempts and %d retries, it counts %d and %d", job.Name, len(job.Devices), attempts, retries, job.Attempts, job.Retries)
	}
}

func checkTwin(t *testing.T, hub *emulator.Server, id string) {
	t.Helper()
	text, _ := hub.Twin(id)
	var twin struct {
		Tags       struct{ Site string }
		Properties struct{ Desired struct{ Floor int } }
	}
	if err := json.Unmarshal(text, &twin); err != nil {
		t.Fatal(err)
	}
	if twin.Tags.Site != "B" || twin.Properties.Desired.Floor != 9000 {
		t.Errorf("%s ended as %+v", id, twin)
	}
}

// pin makes a pinned preview of the plan, to be applied instead.
func (p *process) pin(tb testing.TB) {
	tb.Helper()
	p.file = "pinned.json"
	cmd := exec.Command(p.program, "preview", "--ca-file", p.path("ca.pem"), "--connection-string-file", p.path("hub.txt"), "--out", p.path(p.file), p.path("plan.yaml"))
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("preview: %v\n%s", err, out)
	}
}

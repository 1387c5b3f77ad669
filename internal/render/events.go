package render

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"iothub-runner/spec"
)

// Events writes what happens in a run as lines of JSON, each with its event: run,
// jobStarted, row, job, and end with the summary. It may be used from many goroutines.
type Events struct {
	mu  sync.Mutex
	out *bufio.Writer
	err error
}

// NewEvents returns a writer of events.
func NewEvents(w io.Writer) *Events {
	return &Events{out: bufio.NewWriterSize(&Escaper{Out: w}, 64<<10)}
}

// Run tells of the run.
func (e *Events) Run(run *spec.Run) { e.write("run", run) }

// JobStarted tells that a job has begun.
func (e *Events) JobStarted(name string) {
	e.write("jobStarted", struct {
		Job string `json:"job"`
	}{name})
}

// WaveStarted tells that a wave of a job has begun.
func (e *Events) WaveStarted(job, hub string, wave, waves, targets int) {
	e.write("waveStarted", struct {
		Job     string `json:"job"`
		Hub     string `json:"hub,omitempty"`
		Wave    int    `json:"wave"`
		Waves   int    `json:"waves"`
		Targets int    `json:"targets"`
	}{job, hub, wave, waves, targets})
}

// Row tells of a target that has ended.
func (e *Events) Row(job string, row []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	name, err := json.Marshal(job)
	if err == nil && e.err == nil {
		_, err = fmt.Fprintf(e.out, `{"event":"row","job":%s,%s`+"\n", name, row[1:])
	}
	if e.err == nil {
		e.err = err
	}
	return e.err
}

// Job tells of a job that has ended.
func (e *Events) Job(job *spec.JobReport) {
	j := *job
	j.Devices = []spec.Row{}
	e.write("job", &j)
}

// End tells how the run went, and that nothing follows.
func (e *Events) End(rep *spec.Report) error {
	e.write("end", struct {
		Status   spec.Status  `json:"status"`
		ExitCode int          `json:"exitCode"`
		Reason   string       `json:"reason,omitempty"`
		Summary  spec.Summary `json:"summary"`
	}{rep.Run.Status, rep.Run.ExitCode, rep.Run.Reason, rep.Summary})
	return e.Flush()
}

// Flush writes what is still to be written.
func (e *Events) Flush() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.out.Flush(); e.err == nil {
		e.err = err
	}
	return e.err
}

func (e *Events) write(event string, v any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text, err := json.Marshal(v)
	if err == nil && e.err == nil {
		_, err = fmt.Fprintf(e.out, `{"event":%q,%s`+"\n", event, text[1:])
	}
	if e.err == nil {
		e.err = err
	}
}

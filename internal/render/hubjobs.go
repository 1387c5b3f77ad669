package render

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"iothub-runner/internal/hub"
)

// HubJobs writes jobs of the hub's own service one after the other, as a table or
// as a JSON array.
type HubJobs struct {
	list  jsonList
	table *tabwriter.Writer // nil for JSON
}

// NewHubJobs begins to write in this format: text or json.
func NewHubJobs(w io.Writer, format string) *HubJobs {
	if format == "json" {
		return &HubJobs{list: jsonList{w: w}}
	}
	t := &HubJobs{table: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t.table, "JOB\tTYPE\tSTATUS\tDEVICES\tFAILED\tCREATED\tCONDITION")
	return t
}

// Job writes one. What goes wrong shows in Close.
func (t *HubJobs) Job(j *hub.Job) {
	if t.table == nil {
		t.list.add(j)
		return
	}
	all, failed := "-", "-"
	if n := j.Devices; n != nil {
		all, failed = fmt.Sprint(n.All), fmt.Sprint(n.Failed)
	}
	fmt.Fprintf(t.table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.ID, j.Type, j.Status, all, failed, timeOr(j.CreatedAt, "-"), Clip(j.Condition, 60))
}

// Close ends the list.
func (t *HubJobs) Close() error {
	if t.table == nil {
		return t.list.close()
	}
	return t.table.Flush() //nolint:wrapcheck // the caller says what was written
}

// HubJob writes one job, with its rows.
type HubJob struct {
	w     io.Writer
	job   *hub.Job
	list  jsonList
	table *tabwriter.Writer // of the rows
	err   error
	json  bool
	rows  int
}

// NewHubJob begins to write in this format: text or json.
func NewHubJob(w io.Writer, format string, job *hub.Job) *HubJob {
	t := &HubJob{w: w, job: job, json: format == "json", list: jsonList{w: w, indent: "  "}, table: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if t.json {
		t.head()
	} else {
		t.text()
	}
	return t
}

// head writes the job without the closing brace.
func (t *HubJob) head() {
	text, err := json.MarshalIndent(t.job, "", "  ")
	if err == nil {
		_, err = t.w.Write(text[:len(text)-2])
	}
	t.err = err
}

func (t *HubJob) text() {
	j := t.job
	fields := [][2]string{
		{"job", j.ID},
		{"type", j.Type},
		{"status", string(j.Status)},
		{"reason", strings.Trim(j.Failure+"; "+j.Message, "; ")},
		{"condition", j.Condition},
		{"created", timeOr(j.CreatedAt, "")},
		{"starts", timeOr(j.StartAt, "")},
		{"ended", timeOr(j.EndedAt, "")},
		{"method", string(j.Method)},
		{"patch", string(j.Twin)},
	}
	if j.Seconds > 0 {
		fields = append(fields, [2]string{"may take", (time.Duration(j.Seconds) * time.Second).String()})
	}
	if n := j.Devices; n != nil {
		fields = append(fields, [2]string{"devices", fmt.Sprintf("%d: %d succeeded, %d failed, %d running, %d pending", n.All, n.Succeeded, n.Failed, n.Running, n.Pending)})
	}
	for _, f := range fields {
		if f[1] != "" {
			fmt.Fprintf(t.table, "%s:\t%s\n", f[0], f[1])
		}
	}
	t.err = t.table.Flush()
}

// hubJobRow is a row as JSON has it.
type hubJobRow struct {
	DeviceID  string          `json:"deviceId"`
	ModuleID  string          `json:"moduleId,omitempty"`
	Status    hub.JobStatus   `json:"status"`
	UpdatedAt *time.Time      `json:"updatedAt,omitempty"`
	Method    *hubJobAnswer   `json:"method,omitempty"`
	Error     *hubJobRowError `json:"error,omitempty"`
}

type hubJobAnswer struct {
	Status  int             `json:"status"`
	Payload json.RawMessage `json:"payload"`
}

type hubJobRowError struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

// Row writes what the job did for a device.
func (t *HubJob) Row(r *hub.JobRow) {
	if t.rows++; t.json {
		if t.rows == 1 && t.err == nil {
			_, t.err = io.WriteString(t.w, ",\n  \"devices\": ")
		}
		row := hubJobRow{DeviceID: r.DeviceID, ModuleID: r.ModuleID, Status: r.Status}
		if !r.UpdatedAt.IsZero() {
			row.UpdatedAt = &r.UpdatedAt
		}
		if r.Answer != nil {
			row.Method = &hubJobAnswer{r.Answer.Status, r.Answer.Payload}
		}
		if r.Err != nil {
			row.Error = &hubJobRowError{r.Err.Name, r.Err.Message}
		}
		t.list.add(row)
		return
	}
	if t.rows == 1 {
		fmt.Fprintln(t.table, "\nDEVICE\tSTATUS\tUPDATED\tANSWER")
	}
	answer := ""
	switch {
	case r.Err != nil:
		answer = strings.Trim(r.Err.Name+": "+r.Err.Message, ": ")
	case r.Answer != nil:
		answer = fmt.Sprintf("%d %s", r.Answer.Status, r.Answer.Payload)
	}
	fmt.Fprintf(t.table, "%s\t%s\t%s\t%s\n", r.Target, r.Status, timeOr(&r.UpdatedAt, "-"), answer)
}

// Close ends the job.
func (t *HubJob) Close() error {
	switch {
	case t.err != nil:
		return t.err
	case !t.json:
		return t.table.Flush() //nolint:wrapcheck // the caller says what was written
	case t.rows > 0:
		if err := t.list.close(); err != nil {
			return err
		}
		_, err := io.WriteString(t.w, "}\n")
		return err //nolint:wrapcheck // as above
	}
	_, err := io.WriteString(t.w, "\n}\n")
	return err //nolint:wrapcheck // as above
}

// jsonList writes a JSON array, an element a line.
type jsonList struct {
	w      io.Writer
	indent string
	n      int
	err    error
}

func (l *jsonList) add(v any) {
	text, err := json.Marshal(v)
	if l.err == nil {
		l.err = err
	}
	lead := ",\n"
	if l.n == 0 {
		lead = "[\n"
	}
	if l.n++; l.err == nil {
		_, l.err = fmt.Fprintf(l.w, "%s%s  %s", lead, l.indent, text)
	}
}

func (l *jsonList) close() error {
	if l.err != nil {
		return l.err
	}
	end := "\n" + l.indent + "]\n"
	if l.n == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(l.w, end)
	return err //nolint:wrapcheck // the caller says what was written
}

func timeOr(t *time.Time, none string) string {
	if t == nil || t.IsZero() {
		return none
	}
	return t.UTC().Format(time.RFC3339)
}

package render

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"iothub-runner/spec"
)

// reportCSV writes a line for each row.
func reportCSV(w io.Writer, d spec.Document) error {
	out := csv.NewWriter(w)
	head := []string{"job", "hub", "deviceId", "moduleId", "outcome", "attempts", "startedAt", "endedAt", "durationMs", "status", "payload", "errorKind", "errorCode", "errorName", "message"}
	if err := out.Write(head); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	hub := d.Head().Run.Hub
	err := eachRow(d, func(job *spec.JobReport, text []byte) error {
		row, err := decode(text)
		if err != nil {
			return err
		}
		cells := []string{job.Name, row.Hub, row.DeviceID, row.ModuleID, string(row.Outcome), strconv.Itoa(row.Attempts), timeText(row.StartedAt), timeText(row.EndedAt), "", "", "", "", "", "", ""}
		if row.Hub == "" {
			cells[1] = hub
		}
		if row.StartedAt != nil {
			cells[8] = strconv.FormatInt(took(row).Milliseconds(), 10)
		}
		if m := row.Method; m != nil {
			cells[9], cells[10] = strconv.Itoa(m.Status), string(m.Payload)
		}
		if e := row.Error; e != nil {
			cells[11], cells[13], cells[14] = e.Kind, e.Name, e.Message
			if e.Code != 0 {
				cells[12] = strconv.Itoa(e.Code)
			}
		}
		for i := range cells {
			cells[i] = defused(Printable(cells[i]))
		}
		return out.Write(cells)
	})
	if out.Flush(); err == nil {
		err = out.Error()
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func timeText(t *spec.Time) string {
	if t == nil {
		return ""
	}
	text, _ := t.MarshalText() // never fails for the times of a report
	return string(text)
}

// defused returns a cell that no spreadsheet takes for a formula: ids and answers come
// from devices.
func defused(cell string) string {
	if cell == "" {
		return ""
	}
	if strings.ContainsRune("=+-@\t\r\n|%", rune(cell[0])) && !isNumber(cell) {
		return "'" + cell
	}
	return cell
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

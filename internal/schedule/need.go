package schedule

import "fmt"

// NeedError means that a job needs one that is not part of the run.
type NeedError struct{ Job, Need string }

// Error names both jobs.
func (e *NeedError) Error() string {
	return fmt.Sprintf("job %s needs job %s, which is not part of this run", e.Job, e.Need)
}

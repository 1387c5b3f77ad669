// Package runner applies a plan to a fleet: it decides which device is due,
// makes at most one call per device at a time, and remembers enough to be
// killed at any moment.
//
// # What goes in and what comes out
//
// [Apply] takes a valid [spec.Plan], the hubs, and a journal that is new or that
// an earlier run left. It returns a [Run] when every target of every job has an
// outcome; [Run.WriteReport] then streams the report from the journal. A non-nil
// error means that nothing was sent.
//
// # How a job is carried out
//
// Each job of the plan is a jobRun, on a goroutine of its own: it waits for the
// jobs it needs and for its time, has its engine carry it out, and judges the
// result. An engine has the targets listed and does what the job asks for each.
// The engine here is direct: one loop, and as many workers as the job has
// concurrency. The loop asks the feed for the next target, hands it to a worker,
// and takes back what came of it. A worker makes one attempt; package decide says
// what follows.
//
// What is known of a job's targets is in its ledger. The ledger keeps thirty bytes
// a target in memory and everything else in the journal. A clerk writes the
// journal's lines for one goroutine: an intent before a request, a result after
// it, and a line for a target that is to be tried again.
//
// # What is guaranteed
//
//   - An intent is on disk before its request leaves. A target whose intent has no
//     result may have been reached, and is never counted as if it had not.
//   - A method is not called again for a device that answered, or that may have
//     acted, unless the plan or the user says that this does no harm.
//   - Every target has one row, also in a run that was stopped.
//   - Memory does not grow with the fleet, apart from those thirty bytes, and 24
//     for each target that waits.
//
// Resuming is Apply with a journal that is not empty: [Past] reads it, and the
// feed hands out what is left. docs/states.md lists the states of a target,
// docs/crash-safety.md what a crash can leave.
//
// The Go API serves the runner command and may change with it; only the plan,
// the report, the commands and the exit codes are promised.
package runner

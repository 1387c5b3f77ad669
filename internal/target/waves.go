package target

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/rollout"
	"iothub-runner/spec"
)

// WaveError means that a wave which names its devices has none of them, or not
// all: whoever wrote the plan means others than the target selects.
type WaveError struct {
	Wave    int // from 1
	Rule    spec.Wave
	Missing []string // devices that the wave lists and the target does not select; empty if the wave selects nobody
}

// Error names the wave and those that it misses.
func (e *WaveError) Error() string {
	if len(e.Missing) == 0 {
		return fmt.Sprintf("wave %d selects no device of the target: %s", e.Wave, e.Rule.Query)
	}
	const most = 3
	names := strings.Join(e.Missing[:min(len(e.Missing), most)], ", ")
	if more := len(e.Missing) - most; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("wave %d lists %s, which the target does not select (letter case counts)", e.Wave, names)
}

// TakeWave notes which targets of the cohort belong to a wave, and returns them.
func (r *Roster) TakeWave(p Page) []uint32 {
	var found []uint32
	for _, row := range p.Rows {
		if index, ok := r.Cohort.Lookup(cohort.Key{Pool: p.Pool, Target: row.Target}); ok {
			found = append(found, index)
		}
	}
	r.AddToWave(p.Wave, found...)
	return found
}

// AddToWave puts targets of the cohort into a wave, counted from 1.
func (r *Roster) AddToWave(wave int, indexes ...uint32) {
	for len(r.Members) < wave {
		r.Members = append(r.Members, nil)
	}
	r.Members[wave-1] = append(r.Members[wave-1], indexes...)
}

// NameWaves finds the targets that the waves list by id, once the listing has
// ended, and says which waves name somebody who is not there.
func (r *Roster) NameWaves() error {
	if r.Job.Rollout == nil {
		return nil
	}
	for i, w := range r.Job.Rollout.Waves {
		e := &WaveError{Wave: i + 1, Rule: w}
		for _, id := range w.Devices {
			found := r.named(id)
			r.AddToWave(i+1, found...)
			if len(found) == 0 {
				e.Missing = append(e.Missing, id.String())
			}
		}
		nobody := w.Query != "" && i == 0 && len(r.members(0)) == 0 && r.Cohort.Size() > 0
		if nobody || len(e.Missing) > 0 {
			return e
		}
	}
	return nil
}

// named finds a target on all hubs.
func (r *Roster) named(id spec.DeviceID) (found []uint32) {
	for pool := range r.Pools {
		key := cohort.Key{Pool: pool, Target: hub.Target{DeviceID: id.Device, ModuleID: id.Module}}
		if index, ok := r.Cohort.Lookup(key); ok {
			found = append(found, index)
		}
	}
	return found
}

func (r *Roster) members(wave int) []uint32 {
	if wave < len(r.Members) {
		return r.Members[wave]
	}
	return nil
}

// Cut cuts the cohort, whose listing is whole, into the waves of the rollout: all
// hubs together, or each for itself.
func (r *Roster) Cut(plan string) (cuts []rollout.Waves) {
	rules := r.Job.Rollout.Waves
	for len(r.Members) < len(rules) {
		r.Members = append(r.Members, nil)
	}
	all := rollout.Shuffled(plan, r.Cohort)
	if !r.EachHub() {
		cuts = []rollout.Waves{rollout.Cut(all, rules, r.Members)}
	} else {
		for pool := range r.Pools {
			theirs := slices.DeleteFunc(slices.Clone(all), func(i uint32) bool { return r.Cohort.Pool(i) != pool })
			cuts = append(cuts, rollout.Cut(theirs, rules, r.Members))
		}
	}
	r.Members = nil // they are in the order
	return cuts
}

// EachHub tells whether each hub has waves of its own.
func (r *Roster) EachHub() bool {
	return r.Job.Rollout != nil && r.Job.Rollout.Scope == spec.ScopeHub && len(r.Pools) > 1
}

// AsUnexpected tells whether a cohort is not what the plan says that it must be:
// its size, its exclusions, or its waves.
func AsUnexpected(err error) bool {
	_, expect := errors.AsType[*ExpectError](err)
	_, wave := errors.AsType[*WaveError](err)
	return expect || wave || errors.Is(err, ErrNoTargets)
}

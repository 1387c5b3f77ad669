package preview

import (
	"time"

	"iothub-runner/internal/rollout"
	"iothub-runner/spec"
)

// WaveForecast is one wave of a rollout.
type WaveForecast struct {
	Hub      string     `json:"hub,omitempty"` // whose wave it is; empty for all hubs together
	Wave     string     `json:"wave"`          // as the plan has it
	Targets  int        `json:"targets"`
	StartsAt *spec.Time `json:"startsAt,omitempty"` // at the earliest; absent if that is not known
	Seconds  float64    `json:"seconds"`            // it takes at least, as the job's own
	Devices  []string   `json:"devices,omitempty"`  // of the first wave, the first of them
}

// maxNamed bounds the devices of the first wave that a forecast names.
const maxNamed = 20

// waves works out those of a job that starts at a time and takes so long.
func (v *view) waves(plan string, start time.Time, seconds float64) (all []WaveForecast) {
	if v.Job.Rollout == nil || v.err != nil {
		return nil
	}
	for pool, cut := range v.Cut(plan) {
		waves := v.wavesOf(cut, start, seconds)
		for i := range waves {
			if v.EachHub() {
				waves[i].Hub = v.Pools[pool].Name
			}
		}
		all = append(all, waves...)
	}
	return all
}

func (v *view) wavesOf(cut rollout.Waves, start time.Time, seconds float64) []WaveForecast {
	rule := v.Job.Rollout
	all := make([]WaveForecast, len(cut.Ends))
	for i := range all {
		from, to := cut.Span(i)
		w := WaveForecast{Wave: rule.Waves[i].String(), Targets: to - from}
		if size := v.Cohort.Size(); size > 0 {
			w.Seconds = seconds * float64(w.Targets) / float64(size)
		}
		if i == 0 {
			for _, index := range cut.Order[:min(to, maxNamed)] {
				w.Devices = append(w.Devices, v.Cohort.Target(index).String())
			}
		}
		if i == 0 || !rule.Manual {
			w.StartsAt = &spec.Time{Time: start}
		}
		start = start.Add(time.Duration(w.Seconds * float64(time.Second)))
		if w.Targets > 0 {
			start = start.Add(rule.Pause)
		}
		all[i] = w
	}
	return all
}

package preview

import (
	"math"

	"iothub-runner/internal/pace"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// Engines is what a job would take with each engine, by what the hub publishes. An
// engine that is faster is not always the one to take: see docs/engines.md.
type Engines struct {
	Engine  spec.Engine `json:"engine"`      // that the job has
	Direct  float64     `json:"direct"`      // seconds at least, with calls from here
	HubJobs float64     `json:"hubJobs"`     // seconds at least, until the rows are read
	Rows    float64     `json:"rows"`        // of those, to read what became of each device
	Advice  spec.Engine `json:"recommended"` // the faster one
	Reason  string      `json:"reason"`
}

// rowPages is how many queries show what a job of the hub did for its targets.
func (v *view) rowPages() int { return (v.Cohort.Size() + target.PageSize - 1) / target.PageSize }

// hubDemand is what a job asks for that the hub's Jobs service carries out.
func (v *view) hubDemand() demand {
	d := v.listingDemand()
	if v.err != nil {
		return d
	}
	d.requests[pace.Query] += v.rowPages() // which cost no messages
	d.jobDevices = v.Cohort.Size()
	d.messages += v.counts.messages
	return d
}

// engines compares the engines for a job; nil if the size of a hub is not known.
func (v *view) engines() *Engines {
	if v.err != nil || v.Cohort.Size() == 0 {
		return nil
	}
	e := &Engines{Engine: v.Job.Engine, Advice: spec.EngineDirect, Reason: "it is faster"}
	d := v.directDemand()
	d.shares = v.shares()
	for i, p := range v.Pools { // all hubs work at once
		perSecond, known := pace.Rates(p.Size.SKU, p.Size.Units)
		if !known {
			return nil
		}
		share := d.shares[i]
		rows := tenths(share * float64(v.rowPages()) / perSecond[pace.Query])
		devices := share * float64(v.Cohort.Size()) / pace.JobDevices(p.Size.SKU, p.Size.Units)
		e.Direct = max(e.Direct, d.on(&p.Size, share, v.Job.Rate).Seconds)
		e.Rows = max(e.Rows, rows)
		e.HubJobs = max(e.HubJobs, tenths(devices+share*float64(v.counts.pages)/perSecond[pace.Query]+rows))
	}
	if e.HubJobs < e.Direct {
		e.Advice, e.Reason = spec.EngineHubJobs, "it is faster, and goes on without this machine"
	}
	return e
}

func tenths(s float64) float64 { return math.Round(s*10) / 10 }

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// status is what the emulator's control endpoint tells of a run.
type status struct {
	Accepted  int
	Throttles map[string]struct{ Delayed, Refused int64 }
}

func (h *hub) status() (st status, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+h.admin+"/v1/status", http.NoBody)
	if err != nil {
		return st, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return st, err
	}
	err = json.NewDecoder(res.Body).Decode(&st)
	return st, errors.Join(err, res.Body.Close())
}

const bothJobs = `version: 1
name: bench-both
jobs:
  - {name: move, type: updateTwin, target: {all: true}, desired: {building: 43, floor: 3}, concurrency: %d}
  - {name: lock, type: directMethod, target: {all: true}, method: lockDoor, payload: {lockTime: 10m}, concurrency: %d}
`

// measureMillion runs two jobs over fleets of two sizes: memory is bounded, the
// cost of a device is flat, and connections are few.
func measureMillion(s settings) error {
	var costs []time.Duration
	for _, n := range []int{10_000, 1_000_000} {
		size := s
		size.devices = n
		h, err := startHub(size, doors(n))
		if err != nil {
			return err
		}
		u, err := h.apply(size, fmt.Sprintf(bothJobs, s.concurrency, s.concurrency))
		st, statusErr := h.status()
		if err = errors.Join(err, statusErr, h.stop()); err != nil {
			return err
		}
		costs = append(costs, u.cpu/time.Duration(2*n))
		fmt.Printf("million  %d devices, two jobs: peak memory %.1f MiB, %v CPU a device and job, %.2f connections per call at once\n",
			n, float64(u.rss)/(1<<20), costs[len(costs)-1], float64(st.Accepted)/float64(2*s.concurrency))
	}
	fmt.Printf("million  cost a device at 1,000,000 against 10,000: %.2f\n", float64(costs[1])/float64(costs[0]))
	return nil
}

// measureThrottle runs against a hub that takes 1,000 calls a second, of which
// the plan knows nothing.
func measureThrottle(s settings) error {
	const rate, burst = 1000, 10_000 // S1 with 25 units, which lets ten seconds pass at once
	s.devices = 60_000
	h, err := startHub(s, doors(s.devices), "--tier", "S1", "--units", "25")
	if err != nil {
		return err
	}
	plan := fmt.Sprintf("version: 1\nname: bench-throttle\njobs:\n"+
		"  - {name: lock, type: directMethod, target: {devices: [%s]}, method: lockDoor, concurrency: %d}\n", doorList(s.devices), s.concurrency)
	u, err := h.apply(s, plan)
	st, statusErr := h.status()
	if err = errors.Join(err, statusErr, h.stop()); err != nil {
		return err
	}
	ideal := time.Duration(float64(s.devices-burst) / rate * float64(time.Second))
	refused := int64(0)
	for _, t := range st.Throttles {
		refused += t.Refused
	}
	fmt.Printf("throttle hub of %d calls a second: kept %.3f of it, %.4f of the calls refused\n",
		rate, ideal.Seconds()/u.wall.Seconds(), float64(refused)/float64(int64(s.devices)+refused))
	return nil
}

// doorList names the doors, so that listing them needs no query: a hub of S1
// takes few of those.
func doorList(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "door-%06d, ", i+1)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// measureStart measures how soon jobs make their first call once they are due,
// and how long the program takes to start.
func measureStart(s settings) error {
	const jobs = 200
	s.devices = jobs
	h, err := startHub(s, doors(jobs))
	if err != nil {
		return err
	}
	var plan strings.Builder
	plan.WriteString("version: 1\nname: bench-start\njobs:\n")
	for i := range jobs {
		fmt.Fprintf(&plan, "  - {name: j%d, type: directMethod, target: deviceId = 'door-%06d', delay: %dms, method: lockDoor, concurrency: 1}\n", i, i+1, 500+20*i)
	}
	s.devices = 1
	_, err = h.apply(s, plan.String())
	late, lateErr := h.lateness()
	version, versionErr := h.versionTime(s)
	if err = errors.Join(err, lateErr, versionErr, h.stop()); err != nil {
		return err
	}
	fmt.Printf("start    first call after the due time: p50 %v, p99 %v over %d jobs; runner version in %v\n",
		late[len(late)/2], late[len(late)*99/100], len(late), version)
	return nil
}

func (h *hub) lateness() (late []time.Duration, err error) {
	text, err := os.ReadFile(h.path("report.json"))
	if err != nil {
		return nil, err
	}
	var report struct {
		Jobs []struct {
			ScheduledAt time.Time
			Devices     []struct{ StartedAt time.Time }
		}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, err
	}
	for _, j := range report.Jobs {
		late = append(late, j.Devices[0].StartedAt.Sub(j.ScheduledAt))
	}
	slices.Sort(late)
	return late, nil
}

func (h *hub) versionTime(s settings) (time.Duration, error) {
	var all []time.Duration
	for range 20 {
		u, err := h.measure(s, s.runner, "version")
		if err != nil {
			return 0, err
		}
		all = append(all, u.wall)
	}
	return median(all), nil
}

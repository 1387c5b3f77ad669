package emulator

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"iothub-runner/internal/emulator/core"
)

func TestLimitsOfTiers(t *testing.T) {
	cases := []struct {
		tier  core.Tier
		units int
		class core.ThrottleClass
		want  float64
	}{
		{core.TierNone, 1, core.ThrottleMethods, 0},
		{core.TierFree, 1, core.ThrottleMethods, 40},
		{core.TierS1, 1, core.ThrottleMethods, 40},
		{core.TierS1, 5, core.ThrottleMethods, 200},
		{core.TierS2, 1, core.ThrottleMethods, 120},
		{core.TierS3, 1, core.ThrottleMethods, 6000},
		{core.TierS1, 3, core.ThrottleTwinReads, 100},
		{core.TierS2, 5, core.ThrottleTwinReads, 100},
		{core.TierS2, 20, core.ThrottleTwinReads, 200},
		{core.TierS3, 2, core.ThrottleTwinReads, 1000},
		{core.TierS1, 9, core.ThrottleTwinUpdates, 50},
		{core.TierS2, 20, core.ThrottleTwinUpdates, 100},
		{core.TierS3, 2, core.ThrottleTwinUpdates, 500},
		{core.TierS1, 3, core.ThrottleQueries, 1},
		{core.TierS3, 3, core.ThrottleQueries, 50},
		{core.TierS1, 3, core.ThrottleRegistry, 5},
		{core.TierS3, 1, core.ThrottleJobs, 5000. / 60},
		{core.TierS1, 7, core.ThrottleJobDevices, 10},
		{core.TierS2, 20, core.ThrottleJobDevices, 20},
		{core.TierS3, 2, core.ThrottleJobDevices, 100},
		{core.TierS1, 1, core.ThrottleConnections, 100},
		{core.TierFree, 10, core.ThrottleD2C, 120},
		{core.TierS2, 2, core.ThrottleConnections, 240},
		{core.TierS3, 2, core.ThrottleD2C, 12000},
		{core.TierS2, 3, core.ThrottleC2D, 5},
		{core.TierS3, 1, core.ThrottleC2D, 5000. / 60},
	}
	for _, c := range cases {
		if got := c.tier.PerSecond(c.class, c.units); got != c.want {
			t.Errorf("tier %d with %d units allows %v %s a second, want %v", c.tier, c.units, got, c.class, c.want)
		}
	}
}

// TestTrafficIsShaped sends far more than the limit: a burst passes at once,
// the next calls are held back to the limit, the rest are refused.
func TestTrafficIsShaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hubWith(t, doors, Options{Tier: "S1"})
		start := time.Now()
		var mu sync.Mutex
		var passed []time.Duration
		refused := 0
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				a := h.do(t, "POST", "/twins/door-0001/methods", `{"methodName":"lockDoor"}`)
				mu.Lock()
				defer mu.Unlock()
				if a.status == 200 {
					passed = append(passed, time.Since(start))
					return
				}
				refused++
				if a.header.Get("iothub-errorcode") != "ThrottlingBacklogTimeout" || !strings.Contains(a.body, "Wait 10 seconds and try again") {
					t.Errorf("refused with %d %s", a.status, a.body)
				}
			})
		}
		wg.Wait()
		same(t, "passed", len(passed), 800) // 40 a second, for 10 s of burst and 10 s of queue
		same(t, "refused", refused, 200)
		same(t, "executed", h.Executed("door-0001").Methods, 800)
		late := 0
		for _, d := range passed {
			if d > 0 {
				late++
			}
			if d > core.ThrottleQueue {
				t.Errorf("a call was held back %v", d)
			}
		}
		same(t, "held back", late, 400)
		// A caller that keeps to the limit is never refused, nor held back.
		time.Sleep(time.Minute)
		for range 500 {
			before := time.Now()
			h.do(t, "POST", "/twins/door-0001/methods", `{"methodName":"lockDoor"}`).want(t, 200)
			same(t, "held back", time.Since(before), time.Duration(0))
			time.Sleep(25 * time.Millisecond)
		}
	})
}

func TestMethodsAreMeteredByPayload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hubWith(t, doors, Options{Tier: "S1"})
		big := `{"methodName":"lockDoor","payload":"` + strings.Repeat("x", 40_000) + `"}` // ten steps of 4 KB
		n := 0
		start := time.Now()
		for time.Since(start) == 0 {
			h.do(t, "POST", "/twins/door-0001/methods", big).want(t, 200)
			n++
		}
		same(t, "calls before the first was held back", n-1, 40)
	})
}

func TestBulkIsMeteredByDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hubWith(t, doors, Options{Tier: "S1"}) // 100 a minute, so 16 at once and 16 in the queue
		many := strings.Repeat(`{"id":"x","importMode":"delete"},`, 50)
		for i := range 50 {
			many = strings.Replace(many, `"x"`, `"n`+string(rune('a'+i%26))+string(rune('a'+i/26))+`"`, 1)
		}
		body := "[" + many[:len(many)-1] + "]"
		h.do(t, "POST", "/devices", body).want(t, 400) // none of them exists, and all of them count
		h.do(t, "GET", "/devices/door-0001", "").refused(t, 429, "ThrottlingBacklogTimeout")
		time.Sleep(time.Minute)
		h.do(t, "GET", "/devices/door-0001", "").want(t, 200)
	})
}

package emulator

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimitsOfTiers(t *testing.T) {
	cases := []struct {
		tier  tier
		units int
		class throttleClass
		want  float64
	}{
		{tierNone, 1, throttleMethods, 0},
		{tierFree, 1, throttleMethods, 40},
		{tierS1, 1, throttleMethods, 40},
		{tierS1, 5, throttleMethods, 200},
		{tierS2, 1, throttleMethods, 120},
		{tierS3, 1, throttleMethods, 6000},
		{tierS1, 3, throttleTwinReads, 100},
		{tierS2, 5, throttleTwinReads, 100},
		{tierS2, 20, throttleTwinReads, 200},
		{tierS3, 2, throttleTwinReads, 1000},
		{tierS1, 9, throttleTwinUpdates, 50},
		{tierS2, 20, throttleTwinUpdates, 100},
		{tierS3, 2, throttleTwinUpdates, 500},
		{tierS1, 3, throttleQueries, 1},
		{tierS3, 3, throttleQueries, 50},
		{tierS1, 3, throttleRegistry, 5},
		{tierS3, 1, throttleJobs, 5000. / 60},
		{tierS1, 7, throttleJobDevices, 10},
		{tierS2, 20, throttleJobDevices, 20},
		{tierS3, 2, throttleJobDevices, 100},
		{tierS1, 1, throttleConnections, 100},
		{tierFree, 10, throttleD2C, 120},
		{tierS2, 2, throttleConnections, 240},
		{tierS3, 2, throttleD2C, 12000},
		{tierS2, 3, throttleC2D, 5},
		{tierS3, 1, throttleC2D, 5000. / 60},
	}
	for _, c := range cases {
		if got := c.tier.perSecond(c.class, c.units); got != c.want {
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
			if d > throttleQueue {
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

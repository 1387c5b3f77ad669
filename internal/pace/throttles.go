package pace

// The throttles that a hub publishes, by class and size. This is the one place
// that holds them: the preview forecasts with them, and the pacer keeps below
// them. Source: "IoT Hub quotas and throttling" in the documentation of Azure,
// of February 2023. A hub lets short bursts pass, so a small run can be faster
// than they say, and never slower for it.

// Class is one of the hub's throttles that our calls fall under. A hub counts
// each of them apart.
type Class int

// The classes.
const (
	Query Class = iota
	TwinRead
	TwinWrite
	Method
	JobCall // to the hub's own Jobs service
	Classes = iota
)

// throttle is what a hub of one sku takes of one class: so much for each unit,
// and so much in any case.
type throttle struct {
	perUnit float64 // requests a second for each unit
	least   float64 // requests a second, however few the units
}

func (t throttle) of(units int) float64 { return max(t.least, t.perUnit*float64(units)) }

// MethodStep is what the direct method throttle counts in: a call takes one
// step for each 4 KB of its payload that it begins.
const MethodStep = 4 << 10

// throttlesOf returns the throttles of a sku; false if it is none that we know.
func throttlesOf(sku string) ([Classes]throttle, bool) {
	const minute = 60
	switch sku {
	case "F1", "S1":
		return [Classes]throttle{
			Query:     {perUnit: 20.0 / minute},
			TwinRead:  {least: 100},
			TwinWrite: {least: 50},
			Method:    {perUnit: 160 / 4},
			JobCall:   {perUnit: 100.0 / minute},
		}, true
	case "S2":
		return [Classes]throttle{
			Query:     {perUnit: 20.0 / minute},
			TwinRead:  {perUnit: 10, least: 100},
			TwinWrite: {perUnit: 5, least: 50},
			Method:    {perUnit: 480 / 4},
			JobCall:   {perUnit: 100.0 / minute},
		}, true
	case "S3":
		return [Classes]throttle{
			Query:     {perUnit: 1000.0 / minute},
			TwinRead:  {perUnit: 500},
			TwinWrite: {perUnit: 250},
			Method:    {perUnit: 24_000 / 4},
			JobCall:   {perUnit: 5000.0 / minute},
		}, true
	}
	return [Classes]throttle{}, false
}

// Rates returns how many requests of each class a hub takes in a second; for
// methods, how many steps of [MethodStep]. It is false for a hub whose size
// nobody has said.
func Rates(sku string, units int) (perSecond [Classes]float64, known bool) {
	throttles, known := throttlesOf(sku)
	if !known {
		return perSecond, false
	}
	for c := range throttles {
		perSecond[c] = throttles[c].of(max(1, units))
	}
	return perSecond, true
}

// JobDevices returns for how many devices a second the hub's own Jobs service does
// something; 0 for a hub whose size nobody has said.
func JobDevices(sku string, units int) float64 {
	const least = 10
	switch n := float64(max(1, units)); sku {
	case "F1", "S1":
		return least
	case "S2":
		return max(least, n)
	case "S3":
		return 50 * n
	}
	return 0
}

// DailyQuota returns how many messages a hub takes in a day, and how many bytes
// one of them has. The numbers of messages are those of the price list.
func DailyQuota(sku string, units int) (messages, size int) {
	const meter = 4 << 10
	switch n := max(1, units); sku {
	case "F1":
		return 8_000, 512
	case "S1":
		return n * 400_000, meter
	case "S2":
		return n * 6_000_000, meter
	case "S3":
		return n * 300_000_000, meter
	}
	return 0, meter
}

// Steps returns how many steps of a size n bytes begin; nothing is one as well.
func Steps(n, size int) int { return max(1, (n+size-1)/size) }

// String returns the name of a class as the preview has it.
func (c Class) String() string {
	return [Classes]string{
		Query: "queries", TwinRead: "twinReads", TwinWrite: "twinUpdates", Method: "methodCalls", JobCall: "jobCalls",
	}[c]
}

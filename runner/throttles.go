package runner

// Class is one of the hub's throttles that our calls fall under.
type Class int

// The classes of the calls that runner makes. Each hub counts them apart.
const (
	ClassQuery Class = iota
	ClassTwinRead
	ClassTwinWrite
	ClassMethod // counted in steps of 4 KB of the payload
	classes     = iota
)

// String names the class as reports and forecasts do.
func (c Class) String() string {
	return [classes]string{"queries", "twin reads", "twin updates", "direct methods"}[c]
}

// Throttle returns how many calls of a class a second a hub of this SKU and so
// many units takes, as published; 0 if the SKU is not known. A method counts
// once for each 4 KB of its payload.
//
// Source: "IoT Hub quotas and throttling" of Microsoft's documentation (2023-02):
// queries 20/min/unit (S3 1,000); twin reads 100/s, S2 10/s/unit if that is
// more, S3 500/s/unit; twin updates half of that; methods 160 KB/s/unit, S2 480
// KB, S3 24 MB.
func Throttle(c Class, sku string, units int) float64 {
	n := float64(max(1, units))
	var rates [classes]float64
	switch sku {
	case "F1", "S1":
		rates = [classes]float64{20 * n / 60, 100, 50, 40 * n}
	case "S2":
		rates = [classes]float64{20 * n / 60, max(100, 10*n), max(50, 5*n), 120 * n}
	case "S3":
		rates = [classes]float64{1000 * n / 60, 500 * n, 250 * n, 6144 * n}
	}
	return rates[c]
}

// methodStep is the payload that counts as one call.
const methodStep = 4 << 10

// MethodCost returns how often a call with this payload counts.
func MethodCost(payload int) int { return max(1, (payload+methodStep-1)/methodStep) }

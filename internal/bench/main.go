// Command bench measures what runner costs for each device, as a ratio to a
// bare loop that makes the same requests and throws the answers away.
//
// Both run as processes of their own, pinned to one core, in turn, against the
// same emulated hub on the other core; what is compared is the operating
// system's account of their processor time. Machines are noisy: only the ratios
// of a pair mean anything.
//
//	go run ./internal/bench -runner bin/runner method twin list
//
// The other measurements are of a whole run: what a million devices cost in
// memory and in time a device, how much of a throttled hub's rate is kept, how
// soon after its due time a job makes its first call.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
)

// settings are the flags.
type settings struct {
	runner      string
	devices     int
	concurrency int
	pairs       int
	clientCPU   string
	serverCPU   string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "loop" {
		exit(loop(os.Args[2:]))
	}
	var s settings
	flag.StringVar(&s.runner, "runner", "bin/runner", "the binary to measure")
	flag.IntVar(&s.devices, "devices", 50_000, "devices of the fleet")
	flag.IntVar(&s.concurrency, "concurrency", 64, "attempts under way at once")
	flag.IntVar(&s.pairs, "pairs", 5, "pairs of runs")
	flag.StringVar(&s.clientCPU, "client-cpu", "0", "core of the client")
	flag.StringVar(&s.serverCPU, "server-cpu", "1", "core of the hub")
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		for _, m := range measurements() {
			names = append(names, m.name)
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(measurements(), func(m measurement) bool { return m.name == name })
		if i < 0 {
			exit(fmt.Errorf("no measurement %q", name))
		}
		if err := measurements()[i].run(s); err != nil {
			exit(fmt.Errorf("%s: %w", name, err))
		}
	}
}

// measurement is one thing that can be measured.
type measurement struct {
	name string
	run  func(settings) error
}

func measurements() []measurement {
	return []measurement{
		{"method", measureMethod},
		{"twin", measureTwin},
		{"list", measureList},
		{"million", measureMillion},
		{"throttle", measureThrottle},
		{"start", measureStart},
	}
}

func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

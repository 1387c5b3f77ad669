package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

// measureList compares listing the fleet, without calling anyone, with calling
// every device. A plan that expects too many devices lists them all and stops.
func measureList(s settings) error {
	h, err := startHub(s, doors(s.devices))
	if err != nil {
		return err
	}
	plan := fmt.Sprintf(`version: 1
name: bench-list
jobs:
  - {name: lock, type: directMethod, target: {all: true, expect: {min: %d}}, method: lockDoor, concurrency: %d}
`, s.devices+1, s.concurrency)
	if err = os.WriteFile(h.path("plan.yaml"), []byte(plan), 0o600); err != nil {
		return err
	}
	err = pair("list", s,
		func(int) (usage, error) {
			return h.measure(s, "sh", "-c", s.runner+" apply --progress none --report "+h.path("report.json")+" "+h.path("plan.yaml")+" || test $? -eq 5")
		},
		func(int) (usage, error) {
			return h.measure(s, os.Args[0], "loop", "-devices", strconv.Itoa(s.devices),
				"-concurrency", strconv.Itoa(s.concurrency), "-body", methodBody)
		})
	return errors.Join(err, h.stop())
}

package planfile_test

import (
	"fmt"

	"iothub-runner/internal/planfile"
	"iothub-runner/spec"
)

func ExampleParse() {
	plan, diags := planfile.Parse("plan.yaml", []byte(`
version: 1
name: lock-building-43
jobs:
  - name: lock
    type: directMethod
    target: tags.building = 43
    method: lockDoor
    payload: {lockTime: 10m}
`), planfile.Options{})
	fmt.Println(len(diags), plan.Name, plan.Jobs[0].Method.Name, string(plan.Jobs[0].Method.Payload))

	_, diags = planfile.Parse("plan.yaml", []byte("version: 1\nname: lock\njobs:\n  - {name: lock, type: directMethod, target: tags.a == 1, metod: lockDoor}\n"), planfile.Options{})
	fmt.Print(diags)
	// Output:
	// 0 lock-building-43 lockDoor {"lockTime":"10m"}
	// plan.yaml:4:53: query-syntax: == is not part of the query language
	//    4 |   - {name: lock, type: directMethod, target: tags.a == 1, metod: lockDoor}
	//      |                                                     ^~
	// hint: equality is written =
	// plan.yaml:4:59: unknown-key: a job has no key "metod"
	//    4 |   - {name: lock, type: directMethod, target: tags.a == 1, metod: lockDoor}
	//      |                                                           ^~~~~
	// hint: did you mean "method"?
}

func ExampleTemplate_Execute() {
	plan, _ := planfile.Parse("plan.yaml", []byte(`
version: 1
name: greet
vars: {building: 43}
jobs:
  - name: greet
    type: directMethod
    target: tags.building = ${var.building}
    method: show
    payload: {text: "door ${device.id} of ${var.building}", site: '${device.tags.site|"unknown"}'}
`), planfile.Options{})
	payload, err := plan.Jobs[0].Method.Template.Execute(spec.Device{ID: "door-1"})
	fmt.Println(string(payload), err)
	// Output:
	// {"text":"door door-1 of 43","site":"unknown"} <nil>
}

func ExampleExplain() {
	text, _ := spec.Explain("retry.attempts")
	fmt.Print(text)
	// Output:
	// jobs[].retry.attempts: whole number
	//
	//   Attempts for one device, the first one included.
	//
	//   default  4
	//   limits   1 to 100
	//   example  attempts: 5
}

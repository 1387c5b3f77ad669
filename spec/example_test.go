package spec_test

import (
	"fmt"

	"iothub-runner/spec"
)

func ExampleParse() {
	plan, diags := spec.Parse("plan.yaml", []byte(`
version: 1
name: lock-building-43
jobs:
  - name: lock
    type: directMethod
    target: tags.building = 43
    method: lockDoor
    payload: {lockTime: 10m}
`), spec.Options{})
	fmt.Println(len(diags), plan.Name, plan.Jobs[0].Method.Name, string(plan.Jobs[0].Method.Payload))

	_, diags = spec.Parse("plan.yaml", []byte("version: 1\nname: lock\njobs:\n  - {name: lock, type: directMethod, target: tags.a == 1, metod: lockDoor}\n"), spec.Options{})
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

package main

import (
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tidwall/gjson"
)

// cmdValues is "values FILE PATH=VALUE...": FILE is JSON that has these values.
func cmdValues(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: values FILE PATH=VALUE...")
	}
	text := ts.ReadFile(args[0])
	if !gjson.Valid(text) {
		ts.Fatalf("%s is not JSON:\n%s", args[0], text)
	}
	for _, arg := range args[1:] {
		path, want, _ := strings.Cut(arg, "=")
		if got := gjson.Get(text, path).String(); got != want {
			ts.Fatalf("%s: %s is %q, want %q\n%s", args[0], path, got, want, text)
		}
	}
}

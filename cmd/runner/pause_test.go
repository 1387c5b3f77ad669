package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"iothub-runner/internal/pace"
)

// What a run waits for is said in every way of showing progress but none.
func TestPausedIsSaid(t *testing.T) {
	pause := pace.Pause{Hub: "h.example", Calls: "twinReads", Until: time.Now().Add(24 * time.Hour), Err: errors.New("hub answered 429001")}
	pause.Since, pause.GiveUp = time.Now(), pause.Until.Add(time.Hour)
	until := pause.Until.UTC().Truncate(time.Second).Format(time.RFC3339)
	for flags, said := range map[talkFlags]bool{
		{progress: "auto", logFormat: "text"}:               true,
		{progress: "plain", logFormat: "text"}:              true,
		{progress: "tty", logFormat: "text"}:                true,
		{progress: "plain", logFormat: "json"}:              true,
		{progress: "none", logFormat: "text"}:               false,
		{progress: "plain", logFormat: "text", quiet: true}: false,
	} {
		var stderr bytes.Buffer
		talk, err := flags.talk(environment{getenv: func(string) string { return "" }, stderr: &stderr, json: flags.logFormat == "json"})
		if err != nil {
			t.Fatal(err)
		}
		talk.Paused(pause)
		text := stderr.String()
		if !said && text != "" {
			t.Errorf("%+v: %q, want nothing", flags, text)
		}
		if said && (!strings.Contains(text, until) || !strings.Contains(text, "reads of twins") || !strings.Contains(text, "429001")) {
			t.Errorf("%+v: %q, want what waits, until when and why", flags, text)
		}
	}
}

// A wait that is longer than jobs take part in is said to end with them, and the
// end of a wait is said as well.
func TestPausedSaysWhenJobsGiveUp(t *testing.T) {
	now := time.Now()
	pause := pace.Pause{Hub: "h.example", Calls: "queries", Since: now, Until: now.Add(24 * time.Hour), GiveUp: now.Add(time.Hour), Err: errors.New("hub answered 429001")}
	var stderr bytes.Buffer
	talk, err := (&talkFlags{progress: "plain", logFormat: "text"}).talk(environment{getenv: func(string) string { return "" }, stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	talk.Paused(pause)
	pause.Over, pause.Until = true, now.Add(12*time.Second)
	talk.Paused(pause)
	lines := strings.Split(stderr.String(), "\n")
	if giveUp := pause.GiveUp.UTC().Truncate(time.Second).Format(time.RFC3339); !strings.Contains(lines[0], "no longer than until "+giveUp) {
		t.Errorf("%q does not say that jobs give up at %s", lines[0], giveUp)
	}
	if want := "runner: hub h.example: queries go on, after 12s"; lines[1] != want {
		t.Errorf("said %q, want %q", lines[1], want)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"iothub-runner/internal/hubtest/wire"
)

// A hub of one unit takes a hundred connections and messages a second, and
// fifty updates of twins, and more at first.
const (
	connectsAtOnce = 100
	connectRounds  = 100
	messagesAtOnce = 20_000

	reporters     = 10
	reportRounds  = 10
	reportsAtOnce = 200 // of one device; emulators cut off who lets more answers than 256 wait
)

func throttleAssumptions() []Assumption {
	return []Assumption{
		{
			ID: "A120", Says: "Connections above the throttle are refused with a CONNACK of code 3", Source: "unconfirmed: documented for a hub that is not available", Expect: "3",
			Disturbs: "uses up the hub's connections of a minute", Faults: `[{fault: throttled, operations: [connect], calls: 30-}]`, observe: observeCrowd,
		},
		{
			ID: "A121", Says: "A reported patch above the throttle is answered with 429", Source: "error list; the Node SDK knows the status", Expect: "429",
			Disturbs: "uses up the hub's updates of twins of a minute", Faults: `[{fault: throttled, operations: [reportedPatch], calls: 30-}]`, observe: observeManyReports,
		},
		{
			ID: "A122", Says: "Telemetry above the throttle ends the connection", Source: "issue 107838 of the documents: devices are disconnected when the backlog is full", Expect: "hung up",
			Disturbs: "uses up the hub's messages of a minute, and of the day's some thousands", Faults: `[{fault: throttled, operations: [telemetry], calls: 30-}]`, observe: func(p *probe) string {
				d := p.register()
				c := p.connect(d)
				if p.err != nil {
					return ""
				}
				for range messagesAtOnce {
					if c.Publish(p.ctx, "devices/"+d.id+"/messages/events/", "{}", 0) != nil {
						break // what a hub makes that has hung up
					}
				}
				return either(c.hungUp(), "hung up", "stays")
			},
		},
	}
}

// observeManyReports lets some devices report much at a time until the hub
// answers one of them with other than success.
func observeManyReports(p *probe) string {
	var crowd []*connection
	for range reporters {
		crowd = append(crowd, p.connect(p.register(), twinAnswers+"#"))
	}
	for range reportRounds {
		for _, c := range crowd {
			for i := range reportsAtOnce {
				c.send(fmt.Sprintf("%s?$rid=%d", twinReport, i), fmt.Sprintf(`{"n":%d}`, i), 0)
			}
		}
		for _, c := range crowd {
			for range reportsAtOnce {
				status, _, _ := strings.Cut(strings.TrimPrefix(c.next().Topic, twinAnswers), "/")
				if status != "204" {
					return status
				}
			}
		}
	}
	p.fail(fmt.Errorf("the hub took %d reports without refusing one", reporters*reportRounds*reportsAtOnce))
	return ""
}

// observeCrowd connects a device many times over until the hub refuses it.
func observeCrowd(p *probe) string {
	hello := p.hello(p.register())
	if p.err != nil {
		return ""
	}
	ctx, stop := context.WithCancel(p.ctx)
	defer stop()
	refused := make(chan byte, 1)
	for range connectRounds {
		var crowd sync.WaitGroup
		for range connectsAtOnce {
			crowd.Go(func() {
				if code, ok := refusalOf(ctx, hello); ok {
					select {
					case refused <- code:
						stop() // the others may be held back for long
					default:
					}
				}
			})
		}
		crowd.Wait()
		select {
		case code := <-refused:
			return fmt.Sprint(code)
		default:
		}
	}
	p.fail(fmt.Errorf("the hub took %d connections without refusing one", connectRounds*connectsAtOnce))
	return ""
}

// refusalOf is the code that a CONNECT is refused with, if it is. The crowd
// takes the connection from one another: that is no refusal.
func refusalOf(ctx context.Context, hello wire.Hello) (byte, bool) {
	d, err := wire.Connect(ctx, hello)
	if err != nil {
		refused, ok := errors.AsType[*wire.RefusedError](err)
		if !ok {
			return 0, false
		}
		return refused.Code, true
	}
	d.Close()
	return 0, false
}

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

// calling is a method call under way.
type calling struct {
	wg     sync.WaitGroup
	answer wire.Answer
	err    error
}

// call starts a method call.
func (p *probe) call(d identity, body string) *calling {
	c := &calling{}
	if p.err != nil {
		return c
	}
	c.wg.Go(func() {
		c.answer, c.err = p.hub.Do(p.ctx, wire.Request{Verb: "POST", Path: d.methods(), Body: body})
	})
	return c
}

// result waits for the end of the call.
func (c *calling) result(p *probe) wire.Answer {
	c.wg.Wait()
	if c.err != nil {
		p.fail(c.err)
	}
	return c.answer
}

// over waits for it while the hub's time goes by.
func (c *calling) over(p *probe, limit time.Duration) wire.Answer {
	done := make(chan struct{})
	go func() { // ends with the call, which result waits for
		c.wg.Wait()
		close(done)
	}()
	p.until("the end of the call", limit, func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	return c.result(p)
}

func methodAssumptions() []Assumption {
	return slices.Concat(uncalledAssumptions(), answerAssumptions(), waitAssumptions())
}

// uncalledAssumptions are about calls that never reach a device.
func uncalledAssumptions() []Assumption {
	return []Assumption{
		{ID: "A040", Says: "A call to a device that never connected fails at once with 404103, and says that it waited for 00:00:00", Source: "captures", Expect: "404 DeviceNotOnline 404103 00:00:00", observe: func(p *probe) string {
			a := p.try("POST", p.register().methods(), `{"methodName":"m"}`)
			return fmt.Sprint(named(a), " ", a.Code(), " ", a.Waited())
		}},
		{ID: "A041", Says: "A device that is connected but does not subscribe to methods is not online", Source: "documents; error text", Expect: "404 DeviceNotOnline 404103", observe: func(p *probe) string {
			d := p.register()
			p.connect(d, twinAnswers+"#")
			a := p.try("POST", d.methods(), `{"methodName":"m"}`)
			return fmt.Sprint(named(a), " ", a.Code())
		}},
		{
			ID: "A042", Says: "A call to a disabled device answers as if there were none", Source: "error list: not registered or disabled", Expect: "404 DeviceNotFound",
			Switch: "disabledDevice", Values: map[string]string{"notFound": "404 DeviceNotFound", "notOnline": "404 DeviceNotOnline"}, observe: func(p *probe) string {
				d := p.register()
				p.must("PUT", d.device(), `{"deviceId":"`+d.id+`","status":"disabled"}`, "If-Match", `"*"`)
				return named(p.try("POST", d.methods(), `{"methodName":"m"}`))
			},
		},
		{ID: "A043", Says: "A call to an unknown device is refused with JSON inside the message", Source: "unconfirmed which of two shapes", Expect: "404001", observe: func(p *probe) string {
			return fmt.Sprint(p.try("POST", identity{id: p.newID()}.methods(), `{"methodName":"m"}`).Code())
		}},
		{
			ID: "A044", Says: "A payload above 128 KB is refused with 413", Source: "unconfirmed: 413 or 400", Expect: "413",
			Switch: "bigPayload", Values: map[string]string{"413": "413", "400": "400"}, observe: func(p *probe) string {
				d := p.register()
				p.connect(d, methodCalls+"#")
				return fmt.Sprint(p.try("POST", d.methods(), `{"methodName":"m","payload":"`+strings.Repeat("x", 128<<10)+`"}`).Status)
			},
		},
	}
}

// answerAssumptions are about what devices are sent, and answer.
func answerAssumptions() []Assumption {
	return []Assumption{
		{
			ID: "A045", Says: "A device that answers what is not JSON makes a bad gateway", Source: "unconfirmed: 502 or 504", Expect: "502",
			Switch: "garbageAnswer", Values: map[string]string{"502": "502", "504": "504"}, observe: func(p *probe) string {
				d := p.register()
				c := p.connect(d, methodCalls+"#")
				call := p.call(d, `{"methodName":"m","responseTimeoutInSeconds":10}`)
				c.answer(c.next(), 200, "oops")
				return fmt.Sprint(call.over(p, time.Minute).Status)
			},
		},
		{ID: "A046", Says: "A device that answers what is not JSON loses its connection", Source: "inferred from issue 616 of the C SDK", Expect: "hung up", observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d, methodCalls+"#")
			call := p.call(d, `{"methodName":"m","responseTimeoutInSeconds":10}`)
			c.answer(c.next(), 200, "oops")
			seen := either(c.hungUp(), "hung up", "stays")
			call.over(p, time.Minute)
			return seen
		}},
		{ID: "A047", Says: "A call without payload reaches the device with the text null", Source: "recorded clients; unconfirmed for the missing key", Expect: "null null", observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d, methodCalls+"#")
			var seen []string
			for _, body := range []string{`{"methodName":"m"}`, `{"methodName":"m","payload":null}`} {
				call := p.call(d, body)
				m := c.next()
				c.answer(m, 200, "")
				call.result(p)
				seen = append(seen, m.Body)
			}
			return strings.Join(seen, " ")
		}},
		{ID: "A048", Says: "An empty answer of a device is a null payload", Source: "documents; inferred", Expect: `200 {"payload":null,"status":204}`, observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d, methodCalls+"#")
			call := p.call(d, `{"methodName":"m"}`)
			c.answer(c.next(), 204, "")
			a := call.result(p)
			return fmt.Sprint(a.Status, " ", at(a.Doc()))
		}},
		{ID: "A049", Says: "The name of a method is escaped in the topic", Source: "Python client", Expect: methodCalls + "a%20b/", observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d, methodCalls+"#")
			call := p.call(d, `{"methodName":"a b"}`)
			m := c.next()
			c.answer(m, 200, "")
			call.result(p)
			topic, _, _ := strings.Cut(m.Topic, "?")
			return topic
		}},
	}
}

// waitAssumptions are about the two timeouts.
func waitAssumptions() []Assumption {
	return []Assumption{
		{ID: "A050", Says: "The old key timeoutInSeconds is ignored", Source: "issue 979 of the old SDKs", Expect: "404 DeviceNotOnline", observe: func(p *probe) string {
			return named(p.try("POST", p.register().methods(), `{"methodName":"m","timeoutInSeconds":1}`))
		}},
		{ID: "A051", Says: "A device that takes a call and never answers makes 504101", Source: "captures", Expect: "504 GatewayTimeout 504101", observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d, methodCalls+"#")
			call := p.call(d, `{"methodName":"m","responseTimeoutInSeconds":5}`)
			c.next()
			a := call.over(p, time.Minute)
			return fmt.Sprint(named(a), " ", a.Code())
		}},
		{ID: "A052", Says: "A device that disconnects during a call makes 404104 at once", Source: "issue 317 of the C# SDK; the number is unconfirmed", Expect: "404 404104", observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d, methodCalls+"#")
			call := p.call(d, `{"methodName":"m","responseTimeoutInSeconds":60}`)
			c.next()
			if p.err == nil {
				c.Close()
			}
			a := call.result(p)
			return fmt.Sprint(a.Status, " ", a.Code())
		}},
		{ID: "A053", Says: "A device that connects within connectTimeout gets the call", Source: "documents", Expect: "200", observe: func(p *probe) string {
			d := p.register()
			call := p.call(d, `{"methodName":"m","connectTimeoutInSeconds":60}`)
			c := p.connect(d, methodCalls+"#")
			c.answer(c.next(), 200, "")
			return fmt.Sprint(call.result(p).Status)
		}},
		{ID: "A054", Says: "A response timeout of 4 s is refused", Source: "captures", Expect: "400 ArgumentInvalid 400004", observe: func(p *probe) string {
			a := p.try("POST", p.register().methods(), `{"methodName":"m","responseTimeoutInSeconds":4}`)
			return fmt.Sprint(named(a), " ", a.Code())
		}},
	}
}

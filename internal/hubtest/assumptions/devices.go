package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

func deviceAssumptions() []Assumption {
	return append(connectAssumptions(), topicAssumptions()...)
}

func connectAssumptions() []Assumption {
	return []Assumption{
		{ID: "A090", Says: "A wrong key is refused with a CONNACK of code 5", Source: "issue 2300 of the C SDK; 4 is documented, too", Expect: "5", observe: func(p *probe) string {
			d := p.register()
			d.key = strings.Repeat("eHh4", 8)
			return p.code(p.hello(d))
		}},
		{ID: "A091", Says: "A disabled device is refused with a CONNACK of code 5", Source: "issue 373 of the C SDK", Expect: "5", observe: func(p *probe) string {
			d := p.register()
			p.must("PUT", d.device(), `{"deviceId":"`+d.id+`","status":"disabled"}`, "If-Match", `"*"`)
			return p.code(p.hello(d))
		}},
		{ID: "A092", Says: "An unknown device is refused with a CONNACK of code 5", Source: "issue 2300 of the C SDK", Expect: "5", observe: func(p *probe) string {
			d := p.register()
			d.id = p.newID()
			return p.code(p.hello(d))
		}},
		{ID: "A093", Says: "A user name without question mark is taken", Source: "the Go client, which worked with the hub", Expect: "0", observe: func(p *probe) string {
			d := p.register()
			h := p.hello(d)
			h.User = p.hub.Name() + "/" + d.id + "/api-version=2020-09-30"
			return p.code(h)
		}},
		{ID: "A094", Says: "A token for the bare host is taken, if the device's key signed it", Source: "the Go client, which worked with the hub", Expect: "0", observe: func(p *probe) string {
			d := p.register()
			h := p.hello(d)
			var err error
			if h.Password, err = wire.Token(p.hub.Name(), d.key, "", time.Now().Add(time.Hour)); err != nil {
				p.fail(err)
			}
			return p.code(h)
		}},
		{ID: "A095", Says: "A token that ended is refused with a CONNACK of code 5", Source: "unconfirmed code", Expect: "5", observe: func(p *probe) string {
			d := p.register()
			h := p.hello(d)
			var err error
			if h.Password, err = wire.Token(p.hub.Name()+"/devices/"+url.QueryEscape(d.id), d.key, "", time.Now().Add(-time.Hour)); err != nil {
				p.fail(err)
			}
			return p.code(h)
		}},
		{ID: "A096", Says: "A second connection of a device ends the first", Source: "documents; 400027 in the logs", Expect: "hung up", observe: func(p *probe) string {
			d := p.register()
			first := p.connect(d)
			p.connect(d)
			return either(first.hungUp(), "hung up", "stays")
		}},
		{ID: "A097", Says: "Disabling a device ends its connection", Source: "documents", Expect: "hung up", observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d)
			p.must("PUT", d.device(), `{"deviceId":"`+d.id+`","status":"disabled"}`, "If-Match", `"*"`)
			return either(c.hungUp(), "hung up", "stays")
		}},
	}
}

func topicAssumptions() []Assumption {
	return []Assumption{
		{ID: "A100", Says: "A subscription with QoS 2 is granted with 1", Source: "documents", Expect: "1", observe: func(p *probe) string {
			c := p.connect(p.register())
			if p.err != nil {
				return ""
			}
			granted, err := c.Subscribe(p.ctx, methodCalls+"#", 2)
			if err != nil {
				p.fail(err)
			}
			return fmt.Sprint(granted)
		}},
		{ID: "A101", Says: "A publication with QoS 2 ends the connection", Source: "documents", Expect: "hung up", observe: func(p *probe) string {
			return publishAndSee(p, "devices/%s/messages/events/", 2)
		}},
		{ID: "A102", Says: "A publication to a topic that the hub does not have ends the connection", Source: "unconfirmed", Expect: "hung up", observe: func(p *probe) string {
			return publishAndSee(p, "%s/weather", 0)
		}},
		{ID: "A103", Says: "Telemetry with escaped properties is acknowledged", Source: "recorded clients", Expect: "acknowledged", observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d)
			c.send("devices/"+d.id+"/messages/events/%24.mid=1&%24.ct=application%2Fjson&alert=a%20b", "{}", 1)
			return "acknowledged" // else send has failed
		}},
		{ID: "A104", Says: "A device reads its twin without tags and metadata", Source: "documents", Expect: `{"desired":{"$version":2,"a":1},"reported":{"$version":1}}`, observe: func(p *probe) string {
			d := p.register()
			p.must("PATCH", d.twin(), `{"tags":{"secret":1},"properties":{"desired":{"a":1}}}`)
			c := p.connect(d, twinAnswers+"#")
			c.send(twinGet+"?$rid=abc", "", 0)
			return at(wire.Answer{Body: []byte(c.next().Body)}.Doc())
		}},
		{ID: "A105", Says: "A reported patch is answered with 204 and the new version", Source: "documents", Expect: twinAnswers + "204/?$rid=abc&$version=2", observe: func(p *probe) string {
			c := p.connect(p.register(), twinAnswers+"#")
			c.send(twinReport+"?$rid=abc", `{"a":1}`, 0)
			return c.next().Topic
		}},
		{ID: "A106", Says: "A reported patch that breaks a rule is answered with 400", Source: "issue 70 of the Go client", Expect: twinAnswers + "400/?$rid=abc", observe: func(p *probe) string {
			c := p.connect(p.register(), twinAnswers+"#")
			c.send(twinReport+"?$rid=abc", `{"a b":1}`, 0)
			topic, _, _ := strings.Cut(c.next().Topic, "&")
			return topic
		}},
		{ID: "A107", Says: "A reported patch on top of a version that has passed is answered with 412", Source: "comment in the Node SDK; issue 1530 of the Java SDK", Expect: twinAnswers + "412/?$rid=abc", observe: func(p *probe) string {
			c := p.connect(p.register(), twinAnswers+"#")
			c.send(twinReport+"?$rid=abc&$version=77", `{"a":1}`, 0)
			topic, _, _ := strings.Cut(c.next().Topic, "&")
			return topic
		}},
		{ID: "A108", Says: "A device is told of desired properties as they were written, nulls included, with the version", Source: "recorded clients", Expect: `?$version=2 {"$version":2,"a":1,"b":null}`, observe: func(p *probe) string {
			d := p.register()
			c := p.connect(d, twinDesired+"#")
			p.must("PATCH", d.twin(), `{"tags":{"unheard":1}}`)
			p.must("PATCH", d.twin(), `{"properties":{"desired":{"a":1,"b":null}}}`)
			return notice(c.next())
		}},
		{
			ID: "A109", Says: "After a PUT a device is told of all desired properties, and not of those that went", Source: "documents", Expect: `?$version=3 {"$version":3,"b":2}`,
			Switch: "putNotice", Values: map[string]string{"whole": `?$version=3 {"$version":3,"b":2}`, "nulls": `?$version=3 {"$version":3,"a":null,"b":2}`}, observe: func(p *probe) string {
				d := p.register()
				p.must("PATCH", d.twin(), `{"properties":{"desired":{"a":1}}}`)
				c := p.connect(d, twinDesired+"#")
				p.must("PUT", d.twin(), `{"properties":{"desired":{"b":2}}}`)
				return notice(c.next())
			},
		},
	}
}

func sessionAssumptions() []Assumption {
	return []Assumption{
		{ID: "A114", Says: "A device that comes back in a session that was kept need not subscribe again, to methods and its twin neither", Source: "the Python SDK subscribes once; pull request 5048 of IoT Edge", Expect: `?$version=2 {"$version":2,"a":1}`, observe: func(p *probe) string {
			d := p.register()
			h := p.hello(d)
			h.Session = true
			first := p.join(d, h, twinDesired+"#")
			if p.err != nil {
				return ""
			}
			first.Close()
			again := p.join(d, h)
			p.must("PATCH", d.twin(), `{"properties":{"desired":{"a":1}}}`)
			return notice(again.next())
		}},
	}
}

// notice is the end of a notification's topic, and its body with sorted keys.
func notice(m wire.Message) string {
	return strings.TrimPrefix(m.Topic, twinDesired) + " " + at(wire.Answer{Body: []byte(m.Body)}.Doc())
}

// publishAndSee publishes to a topic, in which %s stands for the device, and
// looks whether the hub hangs up.
func publishAndSee(p *probe, topic string, qos byte) string {
	d := p.register()
	c := p.connect(d)
	if p.err != nil {
		return ""
	}
	// An error is what a hub makes that hangs up before it acknowledges.
	_ = c.Publish(p.ctx, fmt.Sprintf(topic, d.id), "{}", qos)
	return either(c.hungUp(), "hung up", "stays")
}

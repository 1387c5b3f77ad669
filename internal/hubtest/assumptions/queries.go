package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

// indexTime is how long a write may take to show in queries. The documents ask
// to tolerate half an hour; seconds are usual.
const indexTime = 5 * time.Minute

// query asks for one page.
func (p *probe) query(text string, header ...string) wire.Answer {
	return p.try("POST", "/devices/query", queryBody(text), header...)
}

func queryBody(text string) string {
	b, err := json.Marshal(map[string]string{"query": text})
	if err != nil {
		return ""
	}
	return string(b)
}

// rowsOf waits until a query about one of our devices has a row.
func (p *probe) rowsOf(text string) []map[string]any {
	var rows []map[string]any
	p.until("a row of "+text, indexTime, func() bool {
		rows = p.query(text).Rows()
		return len(rows) > 0
	})
	return rows
}

// indexed registers a device with tags and waits until queries know it.
func (p *probe) indexed(tags string) identity {
	d := p.register()
	p.must("PATCH", d.twin(), `{"tags":`+tags+`}`)
	p.rowsOf("SELECT deviceId FROM devices WHERE " + d.condition() + " AND IS_DEFINED(tags.probe)")
	return d
}

// condition selects the device.
func (d identity) condition() string { return "deviceId = '" + d.id + "'" }

func queryAssumptions() []Assumption {
	return []Assumption{
		{
			ID: "A030", Says: "A page size above 100 is cut to what the hub allows", Source: "the az client counts on it", Expect: "200",
			Switch: "pageOverMax", Values: map[string]string{"clamp": "200", "refuse": "400"}, observe: func(p *probe) string {
				return fmt.Sprint(p.query("SELECT deviceId FROM devices", "x-ms-max-item-count", "1000").Status)
			},
		},
		{
			ID: "A031", Says: "A projected nested path without alias is called by its last part", Source: "unconfirmed", Expect: "deep",
			Switch: "nestedKey", Values: map[string]string{"last": "deep", "path": "tags.probe.deep"}, observe: func(p *probe) string {
				d := p.indexed(`{"probe":{"deep":1}}`)
				for key := range p.rowsOf("SELECT tags.probe.deep FROM devices WHERE " + d.condition())[0] {
					return key
				}
				return "no key"
			},
		},
		{ID: "A032", Says: "A projected value that is missing is not in the row", Source: "unconfirmed", Expect: "absent", observe: func(p *probe) string {
			d := p.indexed(`{"probe":1}`)
			rows := p.rowsOf("SELECT tags.nothing AS nothing, deviceId AS id FROM devices WHERE " + d.condition())
			if p.err != nil {
				return ""
			}
			value, there := rows[0]["nothing"]
			return either(there, fmt.Sprint("there, ", value), "absent")
		}},
		{ID: "A033", Says: "Comparing a missing property, even by !=, drops the row", Source: "inferred from the grammar", Expect: "dropped", observe: func(p *probe) string {
			d := p.indexed(`{"probe":1}`)
			return either(len(p.query("SELECT deviceId FROM devices WHERE "+d.condition()+" AND tags.nothing != 1").Rows()) == 0, "dropped", "kept")
		}},
		{ID: "A034", Says: "x-ms-item-type is Twin for whole twins and Raw for the rest", Source: "inferred from the C# client, which compares letter case", Expect: "Twin Raw", observe: func(p *probe) string {
			return p.query("SELECT * FROM devices").Header.Get("x-ms-item-type") + " " + p.query("SELECT COUNT() AS n FROM devices").Header.Get("x-ms-item-type")
		}},
		{ID: "A035", Says: "STARTSWITH works on twins, STARTS_WITH and CONTAINS do not", Source: "issues 110329 and 105649 of the documents", Expect: "200 400 400", observe: func(p *probe) string {
			status := func(f string) int {
				return p.query("SELECT deviceId FROM devices WHERE " + f + "(deviceId, '" + p.prefix + "')").Status
			}
			return fmt.Sprint(status("STARTSWITH"), status("STARTS_WITH"), status("CONTAINS"))
		}},
		{ID: "A036", Says: "A query that cannot be read is refused as ArgumentInvalid", Source: "unconfirmed name", Expect: "400 ArgumentInvalid", observe: func(p *probe) string {
			return named(p.query("SELECT FROM WHERE"))
		}},
		{ID: "A037", Says: "A page token does not serve another query", Source: "unconfirmed", Expect: "400", observe: func(p *probe) string {
			p.indexed(`{"probe":1}`)
			p.indexed(`{"probe":1}`)
			token := p.query("SELECT deviceId FROM devices", "x-ms-max-item-count", "1").Header.Get("x-ms-continuation")
			return fmt.Sprint(p.query("SELECT * FROM devices WHERE tags.probe = 1", "x-ms-max-item-count", "1", "x-ms-continuation", token).Status)
		}},
		{ID: "A038", Says: "Names of the hub's own members are taken in any letter case", Source: "issue 355 of the Node SDK", Expect: "200, one row", observe: func(p *probe) string {
			d := p.indexed(`{"probe":1}`)
			a := p.query("select DEVICEID from devices where DeviceId = '" + d.id + "'")
			return fmt.Sprintf("%d, %s", a.Status, either(len(a.Rows()) == 1, "one row", fmt.Sprint(len(a.Rows()), " rows")))
		}},
		{
			ID: "A039", Says: "A 429 has no Retry-After header", Source: "no client reads one and no capture shows one", Expect: "none", Tier: "free",
			Switch: "retryAfter", Values: map[string]string{"none": "none", "header": "header"}, Disturbs: "uses up the hub's queries of a minute", observe: observeRetryAfter,
		},
	}
}

// The queries that a hub of one unit takes in a minute are 20, and more at first.
const (
	queryRounds   = 10
	queriesAtOnce = 50
)

// observeRetryAfter asks many queries at a time until the hub refuses one.
func observeRetryAfter(p *probe) string {
	if p.err != nil {
		return ""
	}
	ctx, stop := context.WithCancel(p.ctx)
	defer stop()
	refused := make(chan wire.Answer, 1)
	for range queryRounds {
		var asking sync.WaitGroup
		for range queriesAtOnce {
			asking.Go(func() {
				a, err := p.hub.Do(ctx, wire.Request{Verb: "POST", Path: "/devices/query", Body: queryBody("SELECT deviceId FROM devices WHERE deviceId = 'none'")})
				if err == nil && a.Status == 429 {
					select {
					case refused <- a:
						stop() // the others may be held back for long
					default:
					}
				}
			})
		}
		asking.Wait()
		select {
		case a := <-refused:
			return either(a.Header.Get("Retry-After") == "", "none", "header")
		default:
		}
	}
	p.fail(fmt.Errorf("the hub took %d queries without refusing one", queryRounds*queriesAtOnce))
	return ""
}

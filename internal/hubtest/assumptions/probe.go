package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

// setup is what the checks need to reach a hub.
type setup struct {
	hub *wire.Hub
	// serviceOnly is the same hub as a policy that has ServiceConnect alone
	// reaches it; nil if nobody gave its connection string.
	serviceOnly *wire.Hub
	// pass lets the hub's time go by. For a real hub that is waiting.
	pass func(ctx context.Context, d time.Duration) error
	// patience is how long the real clock runs before a wait is given up, even
	// if the hub's clock has been moved beyond it.
	patience time.Duration
}

// probe is one check at work. Once something went wrong that makes the check
// impossible, err is set and its methods do nothing any more, so that checks
// read as what they look at.
type probe struct {
	setup

	ctx    context.Context //nolint:containedctx // a probe lives as long as one check, and is its owner
	prefix string
	err    error
	undo   []func(ctx context.Context) error
	count  int
}

func newProbe(ctx context.Context, s setup) *probe {
	random := make([]byte, 4)
	rand.Read(random)
	return &probe{setup: s, ctx: ctx, prefix: "assume-" + hex.EncodeToString(random)}
}

// fail ends the check, unless it failed already.
func (p *probe) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// newID makes an id that nobody else uses.
func (p *probe) newID() string {
	p.count++
	return fmt.Sprintf("%s-%d", p.prefix, p.count)
}

// cleanUpTime is for deleting what a check made, also after an interruption.
const cleanUpTime = time.Minute

// cleanUp deletes what the check made, last first.
func (p *probe) cleanUp() {
	ctx, stop := context.WithTimeout(context.WithoutCancel(p.ctx), cleanUpTime)
	defer stop()
	for _, undo := range slices.Backward(p.undo) {
		if err := undo(ctx); err != nil {
			p.fail(fmt.Errorf("clean up: %w", err))
		}
	}
	p.undo = nil
}

// try makes a request, whatever the answer. A 429 is waited out: a hub of a
// small tier allows few requests a minute, and one job at a time.
func (p *probe) try(verb, path, body string, header ...string) wire.Answer {
	return p.tryAs(p.hub, verb, path, body, header...)
}

// throttledWait and throttledTries bound how long a 429 is waited out.
const (
	throttledWait  = 15 * time.Second
	throttledTries = 20
)

func (p *probe) tryAs(hub *wire.Hub, verb, path, body string, header ...string) wire.Answer {
	for range throttledTries {
		a := p.once(hub, verb, path, body, header...)
		if p.err != nil || a.Status != 429 {
			return a
		}
		p.wait(throttledWait)
	}
	p.fail(fmt.Errorf("%s %s: the hub throttles", verb, path))
	return wire.Answer{}
}

// once makes a request a single time.
func (p *probe) once(hub *wire.Hub, verb, path, body string, header ...string) wire.Answer {
	if p.err != nil {
		return wire.Answer{}
	}
	r := wire.Request{Verb: verb, Path: path, Body: body, Header: map[string]string{}}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header[header[i]] = header[i+1]
	}
	a, err := hub.Do(p.ctx, r)
	if err != nil {
		p.fail(err)
	}
	return a
}

// must is try for a request that has to succeed for the check to go on.
func (p *probe) must(verb, path, body string, header ...string) wire.Answer {
	a := p.try(verb, path, body, header...)
	if p.err == nil && (a.Status < 200 || a.Status > 299) {
		p.fail(fmt.Errorf("%s %s: answered %d %s", verb, path, a.Status, a.Body))
	}
	return a
}

// wait lets the hub's time go by.
func (p *probe) wait(d time.Duration) {
	if p.err != nil {
		return
	}
	if err := p.pass(p.ctx, d); err != nil {
		p.fail(err)
	}
}

// until asks every second whether something is so, for as long as limit. It
// ends the check if it never is.
func (p *probe) until(what string, limit time.Duration, so func() bool) {
	began := time.Now()
	for waited := time.Duration(0); p.err == nil; waited += time.Second {
		if so() || p.err != nil {
			return
		}
		if waited >= limit && time.Since(began) >= p.patience {
			p.fail(fmt.Errorf("%s: not so within %v", what, limit))
			return
		}
		p.wait(time.Second)
	}
}

// identity is a device that the check made.
type identity struct {
	id, key string
	etag    string
}

// twin and the like are the paths of a device.
func (d identity) twin() string    { return "/twins/" + url.PathEscape(d.id) }
func (d identity) device() string  { return "/devices/" + url.PathEscape(d.id) }
func (d identity) methods() string { return d.twin() + "/methods" }

// register makes a device that is deleted in the end.
func (p *probe) register() identity {
	d := identity{id: p.newID()}
	a := p.must("PUT", d.device(), `{"deviceId":"`+d.id+`"}`)
	d.key = at(a.Doc(), "authentication", "symmetricKey", "primaryKey")
	d.etag = at(a.Doc(), "etag")
	p.undo = append(p.undo, func(ctx context.Context) error {
		a, err := p.hub.Do(ctx, wire.Request{Verb: "DELETE", Path: d.device(), Header: map[string]string{"If-Match": `"*"`}})
		if err == nil && a.Status != 204 && a.Status != 404 {
			err = fmt.Errorf("delete device %q: answered %d", d.id, a.Status)
		}
		return err
	})
	return d
}

// connection is a device that is connected.
type connection struct {
	*wire.Device

	p *probe
	identity
}

// hello is what the documents say that a device says.
func (p *probe) hello(d identity) wire.Hello {
	token, err := wire.Token(p.hub.Name()+"/devices/"+url.QueryEscape(d.id), d.key, "", time.Now().Add(time.Hour))
	if err != nil {
		p.fail(err)
	}
	return wire.Hello{
		Server: "tls://" + p.hub.MQTTAddr, TLS: p.hub.TLS, ClientID: d.id, Password: token, KeepAlive: time.Minute,
		User: p.hub.Name() + "/" + d.id + "/?api-version=" + wire.APIVersion,
	}
}

// connect connects a device and subscribes it, each filter with QoS 0.
func (p *probe) connect(d identity, filters ...string) *connection {
	return p.join(d, p.hello(d), filters...)
}

func (p *probe) join(d identity, h wire.Hello, filters ...string) *connection {
	c := &connection{p: p, identity: d}
	if p.err != nil {
		return c
	}
	var err error
	if c.Device, err = wire.Connect(p.ctx, h); err != nil {
		p.fail(err)
		return c
	}
	p.undo = append(p.undo, func(context.Context) error { c.Close(); return nil })
	for _, f := range filters {
		if _, err := c.Subscribe(p.ctx, f, 0); err != nil {
			p.fail(err)
		}
	}
	return c
}

// code is the code that the hub answers a CONNECT with.
func (p *probe) code(h wire.Hello) string {
	if p.err != nil {
		return ""
	}
	d, err := wire.Connect(p.ctx, h)
	if refused, ok := errors.AsType[*wire.RefusedError](err); ok {
		return fmt.Sprint(refused.Code)
	}
	if err != nil {
		p.fail(err)
		return ""
	}
	d.Close()
	return "0"
}

// The topics of a device, as the documents have them.
const (
	methodCalls   = "$iothub/methods/POST/"
	methodReplies = "$iothub/methods/res/"
	twinAnswers   = "$iothub/twin/res/"
	twinGet       = "$iothub/twin/GET/"
	twinReport    = "$iothub/twin/PATCH/properties/reported/"
	twinDesired   = "$iothub/twin/PATCH/properties/desired/"
)

// sent is what Publish came to on the way out.
func (c *connection) send(topic, body string, qos byte) {
	if c.p.err != nil {
		return
	}
	if err := c.Publish(c.p.ctx, topic, body, qos); err != nil {
		c.p.fail(err)
	}
}

// deviceTime is how long a device waits for the hub.
const deviceTime = 30 * time.Second

// next is the next message of the hub.
func (c *connection) next() wire.Message {
	if c.p.err != nil {
		return wire.Message{}
	}
	ctx, stop := context.WithTimeout(c.p.ctx, deviceTime)
	defer stop()
	m, err := c.Receive(ctx)
	if err != nil {
		c.p.fail(err)
	}
	return m
}

// hangUpTime is how long a hub may take to end a connection.
const hangUpTime = 10 * time.Second

// hungUp says whether the hub ends the connection.
func (c *connection) hungUp() bool {
	if c.p.err != nil {
		return false
	}
	patience := time.NewTimer(hangUpTime)
	defer patience.Stop()
	select {
	case <-c.Lost():
		return true
	case <-patience.C:
		return false
	}
}

// answer replies to a method call.
func (c *connection) answer(call wire.Message, status int, body string) {
	_, query, _ := strings.Cut(call.Topic, "?")
	c.send(fmt.Sprintf("%s%d/?%s", methodReplies, status, query), body, 0)
}

// at steps into a document and returns the text of what is there: a string
// without its quotes, anything else as JSON, nothing for what is missing.
func at(doc any, path ...string) string {
	for _, key := range path {
		m, _ := doc.(map[string]any)
		v, ok := m[key]
		if !ok {
			return ""
		}
		doc = v
	}
	if s, ok := doc.(string); ok {
		return s
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return ""
	}
	return string(b)
}

// either is yes if so, no otherwise.
func either(so bool, yes, no string) string {
	if so {
		return yes
	}
	return no
}

// named is the status and the name of an error, just the status otherwise.
func named(a wire.Answer) string {
	if a.Name() == "" {
		return fmt.Sprint(a.Status)
	}
	return fmt.Sprintf("%d %s", a.Status, a.Name())
}

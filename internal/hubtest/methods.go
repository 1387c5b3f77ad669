package hubtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"iothub-runner/internal/hub"
)

// minResponse is the shortest response timeout that a hub takes.
const minResponse = 5 * time.Second

func methodCases() []testCase {
	return []testCase{
		{"method/a payload of every type goes there and back", []Device{echoing("method-echo")}, (*probe).methodPayloads},
		{"method/a device answers what it likes", []Device{answering()}, (*probe).methodAnswers},
		{"method/a module has methods of its own", modulesWithMethods(), (*probe).methodModule},
		{"method/an offline device does not get the call", []Device{echoing("method-offline")}, (*probe).methodOffline},
		{"method/the hub waits for a device to connect", []Device{echoing("method-late")}, (*probe).methodConnects},
		{"method/a disabled device does not get the call", []Device{echoing("method-disabled")}, (*probe).methodDisabled},
		{"method/a device that does not answer", []Device{withMethod("method-hang", Method{Name: "m", Does: Hangs})}, (*probe).methodHangs},
		{"method/a device that leaves during the call", []Device{withMethod("method-leave", Method{Name: "m", Does: Disconnects})}, func(p *probe) {
			p.methodSpoiled("method-leave")
		}},
		{"method/a device that answers garbage", []Device{withMethod("method-garble", Method{Name: "m", Does: Garbles, Status: 200})}, func(p *probe) {
			p.methodSpoiled("method-garble")
		}},
		{"method/timeouts out of range are refused", []Device{echoing("method-range")}, (*probe).methodRange},
		{"method/the payload is bounded", []Device{echoing("method-size")}, (*probe).methodSize},
		{"method/calls at once do not mix", []Device{echoing("method-many-0"), echoing("method-many-1")}, (*probe).methodConcurrent},
		{"method/a caller may give up", []Device{withMethod("method-quit", Method{Name: "m", Does: Hangs})}, (*probe).methodGiveUp},
	}
}

func withMethod(id string, m ...Method) Device {
	d := plain(id)
	d.Methods = m
	return d
}

func echoing(id string) Device {
	return withMethod(id, Method{Name: "echo", Does: Echoes, Status: 200})
}

// payloads are JSON values of every type, compact, as they must come back.
func payloads() []string {
	return []string{
		`null`, `true`, `false`, `0`, `-1.5`, `43`, `""`, `"text"`, `"{\"a\":1}"`, `"é 😀 \" \\"`,
		`[]`, `[1,"a",null,[true]]`, `{}`, `{"lockTime":"10m","n":null,"deep":{"list":[{}]}}`,
	}
}

func (p *probe) methodPayloads() {
	for _, payload := range payloads() {
		r := p.invoke(target("method-echo"), hub.Call{Method: "echo", Payload: raw(payload)})
		p.wantAnswer("payload "+payload, r, 200, payload)
	}
	p.wantAnswer("no payload", p.invoke(target("method-echo"), hub.Call{Method: "echo"}), 200, "null")
}

func answering() Device {
	methods := []Method{}
	for i, payload := range payloads() {
		methods = append(methods, Method{Name: fmt.Sprintf("say%d", i), Does: Answers, Status: 200, Payload: raw(payload)})
	}
	for _, status := range answerStatuses() {
		methods = append(methods, Method{Name: fmt.Sprintf("status%d", status), Does: Answers, Status: status, Payload: raw(`"s"`)})
	}
	return withMethod("method-answers", methods...)
}

// answerStatuses are statuses of devices, among them those that HTTP uses for
// something else.
func answerStatuses() []int { return []int{0, 1, 201, 204, 400, 401, 404, 412, 429, 500, 504, 1001} }

func (p *probe) methodAnswers() {
	at := target("method-answers")
	for i, payload := range payloads() {
		name := fmt.Sprintf("say%d", i)
		p.wantAnswer(name, p.invoke(at, hub.Call{Method: name}), 200, payload)
	}
	for _, status := range answerStatuses() {
		name := fmt.Sprintf("status%d", status)
		p.wantAnswer(name, p.invoke(at, hub.Call{Method: name, Payload: raw(`{}`)}), status, `"s"`)
	}
}

func modulesWithMethods() []Device {
	devices := moduleDevices("modmethod")
	for i, name := range []string{"gw", "cam", "lock"} {
		devices[i].Methods = []Method{{Name: "who", Does: Answers, Status: 200, Payload: raw(`"` + name + `"`)}}
	}
	return devices
}

func (p *probe) methodModule() {
	for _, module := range []string{"", "cam", "lock"} {
		want := module
		if module == "" {
			want = "gw"
		}
		at := hub.Target{DeviceID: "modmethod-gw", ModuleID: module}
		p.wantAnswer(at.String(), p.invoke(at, hub.Call{Method: "who"}), 200, `"`+want+`"`)
	}
}

func (p *probe) methodOffline() {
	at := target("method-offline")
	p.SetOnline(at, false)
	r := p.invoke(at, hub.Call{Method: "echo", Payload: raw(`1`)})
	p.wantError("without connect timeout", r.err, hub.KindOffline, 404103)
	r = p.invoke(at, hub.Call{Method: "echo", ConnectTimeout: 3 * time.Second})
	p.wantError("after the connect timeout", r.err, hub.KindOffline, 404103)
	p.SetOnline(at, true)
	p.wantAnswer("back again", p.invoke(at, hub.Call{Method: "echo", Payload: raw(`2`)}), 200, "2")
}

// methodConnects connects the device while the call waits for it. Should the
// call be slow to arrive, it finds the device there: also then it must answer.
func (p *probe) methodConnects() {
	at := target("method-late")
	p.SetOnline(at, false)
	done := make(chan result, 1)
	var caller sync.WaitGroup
	caller.Go(func() {
		answer, err := p.hub.Invoke(p.t.Context(), at, hub.Call{
			Method: "echo", Payload: raw(`"here"`), ConnectTimeout: 5 * time.Minute, ResponseTimeout: 30 * time.Second,
		})
		done <- result{answer, err}
	})
	pause := time.NewTimer(5 * breath)
	defer pause.Stop()
	select {
	case r := <-done:
		p.t.Fatalf("the call ended before the device was there: %v", r)
	case <-pause.C:
	}
	p.SetOnline(at, true)
	p.wantAnswer("a device that came", during(p, func() result { return <-done }), 200, `"here"`)
	caller.Wait()
}

// methodDisabled leaves open whether a disabled device counts as unknown or as
// not online: the documentation says the former, and no capture is known.
func (p *probe) methodDisabled() {
	at := target("method-disabled")
	p.SetEnabled(at.DeviceID, false)
	r := p.invoke(at, hub.Call{Method: "echo"})
	if k := kindOf(r.err); k != hub.KindNotFound && k != hub.KindOffline {
		p.t.Errorf("call of a disabled device: %v, want %s or %s", r.err, hub.KindNotFound, hub.KindOffline)
	}
}

func (p *probe) methodHangs() {
	r := p.invoke(target("method-hang"), hub.Call{Method: "m", ResponseTimeout: minResponse})
	p.wantError("a device that hangs", r.err, hub.KindNoAnswer, 504101)
}

// methodSpoiled wants the one thing that matters: the device may have acted.
// The code is not asked for, since several are known.
func (p *probe) methodSpoiled(id string) {
	r := p.invoke(target(id), hub.Call{Method: "m", ResponseTimeout: minResponse})
	p.wantError(id, r.err, hub.KindNoAnswer, 0)
}

func (p *probe) methodRange() {
	at := target("method-range")
	for _, tt := range []struct{ connect, response time.Duration }{
		{0, time.Second}, {0, 4 * time.Second}, {0, 301 * time.Second}, {301 * time.Second, 30 * time.Second},
	} {
		_, err := p.hub.Invoke(p.t.Context(), at, hub.Call{Method: "echo", ConnectTimeout: tt.connect, ResponseTimeout: tt.response})
		p.wantError(fmt.Sprintf("connect %v, response %v", tt.connect, tt.response), err, hub.KindInvalid, 0)
	}
	for _, tt := range []struct{ connect, response time.Duration }{
		{0, minResponse}, {300 * time.Second, 300 * time.Second},
	} {
		_, err := p.hub.Invoke(p.t.Context(), at, hub.Call{Method: "echo", ConnectTimeout: tt.connect, ResponseTimeout: tt.response})
		if err != nil {
			p.t.Errorf("connect %v, response %v: %v", tt.connect, tt.response, err)
		}
	}
}

func (p *probe) methodSize() {
	at := target("method-size")
	big := `"` + strings.Repeat("x", 120<<10) + `"`
	p.wantAnswer("120 KB", p.invoke(at, hub.Call{Method: "echo", Payload: raw(big)}), 200, big)
	huge := `"` + strings.Repeat("x", 129<<10) + `"`
	p.wantError("129 KB", p.invoke(at, hub.Call{Method: "echo", Payload: raw(huge)}).err, hub.KindInvalid, 0)
}

func (p *probe) methodConcurrent() {
	const calls = 64
	var results [calls]result
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			answer, err := p.hub.Invoke(p.t.Context(), target(fmt.Sprintf("method-many-%d", i%2)), hub.Call{
				Method: "echo", Payload: raw(fmt.Sprint(i)), ResponseTimeout: 30 * time.Second,
			})
			results[i] = result{answer, err}
		})
	}
	during(p, func() bool { all.Wait(); return true })
	for i, r := range results {
		p.wantAnswer(fmt.Sprintf("call %d", i), r, 200, fmt.Sprint(i))
	}
}

// methodGiveUp ends the caller's context while the device hangs. The call was
// written, so nobody may say that it had no effect.
func (p *probe) methodGiveUp() {
	ctx, cancel := context.WithTimeout(p.t.Context(), 100*breath) // enough to connect on a machine that is busy
	defer cancel()
	_, err := p.hub.Invoke(ctx, target("method-quit"), hub.Call{Method: "m", ResponseTimeout: 5 * time.Minute})
	p.wantError("a call that was given up", err, hub.KindCut, 0)
}

func kindOf(err error) hub.Kind {
	if e, ok := errors.AsType[*hub.Error](err); ok {
		return e.Kind
	}
	return 0
}

package emulator

import (
	"maps"
	"time"
)

// activity is when a subject that connects for real was last heard of, and when
// it last connected or disconnected. Zero stands for never.
type activity struct{ heard, turned int64 }

// hear notes that a subject connected, or sent or acknowledged something.
func (p *slot) hear(module string, now time.Time) {
	p.ofLine().change(module, func(a *activity) { a.heard = now.UnixNano() })
}

// turn notes that a subject's connection began or ended.
func (p *slot) turn(module string, now time.Time) {
	p.ofLine().change(module, func(a *activity) { a.turned = now.UnixNano() })
}

func (l *line) change(module string, change func(*activity)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.activity == nil {
		l.activity = map[string]activity{}
	}
	a := l.activity[module]
	change(&a)
	l.activity[module] = a
}

// forget follows the deletion of a module.
func (p *slot) forget(module string) {
	if l := p.line.Load(); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.activity, module)
	}
}

// activities returns those of a device and its modules, by module id.
func (p *slot) activities() map[string]activity {
	l := p.line.Load()
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.activity)
}

// seen is what the hub shows of a subject's connection.
type seen struct {
	state         string
	heard, turned string
}

// seen returns what the hub shows of a subject's connection. Simulated devices
// that are online have been so since the hub's start, and never stir.
func (s *Server) seen(m subject) seen {
	shown := seen{state: "Disconnected", heard: neverTime, turned: neverTime}
	if s.connected(m) != nil {
		start := timeText(s.store.born.UnixNano())
		shown = seen{state: "Connected", heard: start, turned: start}
	}
	p := s.store.peek(m.slot)
	if p == nil {
		return shown
	}
	l := p.line.Load()
	if l == nil {
		return shown
	}
	l.mu.Lock()
	a, known := l.activity[m.moduleID()]
	l.mu.Unlock()
	if known {
		shown.heard, shown.turned = timeText(a.heard), timeText(a.turned)
	}
	return shown
}

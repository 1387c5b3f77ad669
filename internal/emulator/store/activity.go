package store

import (
	"maps"
	"time"
)

// activity is when a subject that connects for real was last heard of, and when
// it last connected or disconnected. Zero stands for never.
type activity struct{ Heard, Turned int64 }

// Hear notes that a subject connected, or sent or acknowledged something.
func (p *Slot) Hear(module string, now time.Time) {
	p.ofLine().change(module, func(a *activity) { a.Heard = now.UnixNano() })
}

// Turn notes that a subject's connection began or ended.
func (p *Slot) Turn(module string, now time.Time) {
	p.ofLine().change(module, func(a *activity) { a.Turned = now.UnixNano() })
}

func (l *line) change(module string, change func(*activity)) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if l.Activity == nil {
		l.Activity = map[string]activity{}
	}
	a := l.Activity[module]
	change(&a)
	l.Activity[module] = a
}

// Forget follows the deletion of a module.
func (p *Slot) Forget(module string) {
	if l := p.Line.Load(); l != nil {
		l.Mu.Lock()
		defer l.Mu.Unlock()
		delete(l.Activity, module)
	}
}

// activities returns those of a device and its modules, by module id.
func (p *Slot) activities() map[string]activity {
	l := p.Line.Load()
	if l == nil {
		return nil
	}
	l.Mu.Lock()
	defer l.Mu.Unlock()
	return maps.Clone(l.Activity)
}

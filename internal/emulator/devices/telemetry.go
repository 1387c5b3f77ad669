package devices

import (
	"net/url"
	"strings"
	"sync"
	"time"
)

// HeardMessage is one message that a device sent.
type HeardMessage struct {
	Device, Module string
	At             time.Time
	Bag            string // its properties, as the topic has them
	Body           []byte
}

// heard are the last messages of all devices, for whoever wants to see what
// theirs sent. A device that talks for ever must not fill the memory.
type heard struct {
	mu    sync.Mutex
	List  []HeardMessage // guarded by mu, oldest first
	Bytes int            // guarded by mu
}

// MaxHeard is how much is kept, bodies and properties of all devices together.
const MaxHeard = 16 << 20

// heardCost is what a message weighs besides its texts.
const heardCost = 200

func (m *HeardMessage) cost() int { return heardCost + len(m.Bag) + len(m.Body) }

// Add keeps a message.
func (h *heard) Add(m HeardMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.List = append(h.List, m)
	h.Bytes += m.cost()
	for h.Bytes > MaxHeard {
		h.Bytes -= h.List[0].cost()
		h.List[0] = HeardMessage{}
		h.List = h.List[1:]
	}
}

// Of returns the messages of a device.
func (h *heard) Of(device string) (list []HeardMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.List {
		if h.List[i].Device == device {
			list = append(list, h.List[i])
		}
	}
	return list
}

// Empty lets go of all.
func (h *heard) Empty() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.List, h.Bytes = nil, 0
}

// Unbag reads the properties of a topic, such as a=1&%24.ct=application%2Fjson.
func Unbag(bag string) map[string]string {
	if bag = strings.TrimSuffix(strings.TrimPrefix(bag, "?"), "/"); bag == "" {
		return nil
	}
	properties := map[string]string{}
	for field := range strings.SplitSeq(bag, "&") {
		key, value, _ := strings.Cut(field, "=")
		properties[unescaped(key)] = unescaped(value)
	}
	return properties
}

func unescaped(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

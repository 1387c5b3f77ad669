package emulator

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// heardMessage is one message that a device sent.
type heardMessage struct {
	device, module string
	at             time.Time
	bag            string // its properties, as the topic has them
	body           []byte
}

// heard are the last messages of all devices, for whoever wants to see what
// theirs sent. A device that talks for ever must not fill the memory.
type heard struct {
	mu    sync.Mutex
	list  []heardMessage // guarded by mu, oldest first
	bytes int            // guarded by mu
}

// maxHeard is how much is kept, bodies and properties of all devices together.
const maxHeard = 16 << 20

// heardCost is what a message weighs besides its texts.
const heardCost = 200

func (m *heardMessage) cost() int { return heardCost + len(m.bag) + len(m.body) }

func (h *heard) add(m heardMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, m)
	h.bytes += m.cost()
	for h.bytes > maxHeard {
		h.bytes -= h.list[0].cost()
		h.list[0] = heardMessage{}
		h.list = h.list[1:]
	}
}

func (h *heard) of(device string) (list []heardMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.list {
		if h.list[i].device == device {
			list = append(list, h.list[i])
		}
	}
	return list
}

func (h *heard) empty() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list, h.bytes = nil, 0
}

type adminHeard struct {
	Received   time.Time         `json:"received"`
	ModuleID   string            `json:"moduleId,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Body       *string           `json:"body,omitempty"`
	BodyBase64 []byte            `json:"bodyBase64,omitempty"`
}

// adminTelemetry shows what a device and its modules sent, oldest first.
func (s *Server) adminTelemetry(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("device")
	if _, ok := s.store.find(id); !ok {
		return errDeviceNotFound(id)
	}
	all := []adminHeard{}
	for _, m := range s.heard.of(id) {
		doc := adminHeard{Received: m.at.UTC(), ModuleID: m.module, Properties: unbag(m.bag)}
		doc.Body, doc.BodyBase64 = textOrBytes(m.body)
		all = append(all, doc)
	}
	adminJSON(w, http.StatusOK, all)
	return nil
}

// textOrBytes returns a body as text if it is UTF-8.
func textOrBytes(body []byte) (text *string, raw []byte) {
	if !utf8.Valid(body) {
		return nil, body
	}
	s := string(body)
	return &s, nil
}

// unbag reads the properties of a topic, such as a=1&%24.ct=application%2Fjson.
func unbag(bag string) map[string]string {
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

package emulator

import (
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/refuse"
)

// adminMessage is a message from the cloud to a device, as the control endpoint
// takes and shows it. A body is text, or base64 where it is not.
type adminMessage struct {
	Number     uint64            `json:"number,omitempty"`
	Queued     time.Time         `json:"queued,omitzero"`
	UnderWay   bool              `json:"underWay,omitempty"`
	MessageID  string            `json:"messageId,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Body       *string           `json:"body,omitempty"`
	BodyBase64 []byte            `json:"bodyBase64,omitempty"`
}

// adminSend queues a message for a device, which services do over AMQP.
func (s *Server) adminSend(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		MessageID  string            `json:"messageId"`
		Properties map[string]string `json:"properties"`
		Body       *string           `json:"body"`
		BodyBase64 []byte            `json:"bodyBase64"`
	}
	if err := adminBody(r, &in); err != nil {
		return err
	}
	m := devices.Message{ID: in.MessageID, Properties: in.Properties, Body: in.BodyBase64}
	if in.Body != nil {
		if in.BodyBase64 != nil {
			return fmt.Errorf("want either body, a text, or bodyBase64")
		}
		m.Body = []byte(*in.Body)
	}
	id := r.PathValue("device")
	if err := s.Send(r.Context(), id, m); err != nil {
		return err
	}
	adminJSON(w, http.StatusOK, map[string]int{"cloudToDeviceMessageCount": s.front.Mail.Count(id)})
	return nil
}

// adminQueue shows the messages that wait for a device.
func (s *Server) adminQueue(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("device")
	if _, ok := s.Store.Find(id); !ok {
		return refuse.DeviceNotFound(id)
	}
	all := []adminMessage{}
	for _, m := range s.Queue(id) {
		doc := adminMessage{Number: m.Number, Queued: m.Queued, UnderWay: m.UnderWay, MessageID: m.ID, Properties: m.Properties}
		doc.Body, doc.BodyBase64 = textOrBytes(m.Body)
		all = append(all, doc)
	}
	adminJSON(w, http.StatusOK, all)
	return nil
}

// adminPurge throws the messages away that wait for a device.
func (s *Server) adminPurge(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("device")
	if _, ok := s.Store.Find(id); !ok {
		return refuse.DeviceNotFound(id)
	}
	adminJSON(w, http.StatusOK, map[string]int{"totalMessagesPurged": s.front.Mail.Purge(id)})
	return nil
}

// adminTelemetry shows what a device and its modules sent, oldest first.
func (s *Server) adminTelemetry(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("device")
	if _, ok := s.Store.Find(id); !ok {
		return refuse.DeviceNotFound(id)
	}
	all := []adminHeard{}
	for _, m := range s.front.Heard.Of(id) {
		doc := adminHeard{Received: m.At.UTC(), ModuleID: m.Module, Properties: devices.Unbag(m.Bag)}
		doc.Body, doc.BodyBase64 = textOrBytes(m.Body)
		all = append(all, doc)
	}
	adminJSON(w, http.StatusOK, all)
	return nil
}

type adminHeard struct {
	Received   time.Time         `json:"received"`
	ModuleID   string            `json:"moduleId,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Body       *string           `json:"body,omitempty"`
	BodyBase64 []byte            `json:"bodyBase64,omitempty"`
}

// textOrBytes returns a body as text if it is UTF-8.
func textOrBytes(body []byte) (text *string, raw []byte) {
	if !utf8.Valid(body) {
		return nil, body
	}
	s := string(body)
	return &s, nil
}

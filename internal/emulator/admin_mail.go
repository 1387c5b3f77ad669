package emulator

import (
	"fmt"
	"net/http"
	"time"
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
	m := Message{ID: in.MessageID, Properties: in.Properties, Body: in.BodyBase64}
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
	adminJSON(w, http.StatusOK, map[string]int{"cloudToDeviceMessageCount": s.front.mail.count(id)})
	return nil
}

// adminQueue shows the messages that wait for a device.
func (s *Server) adminQueue(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("device")
	if _, ok := s.store.find(id); !ok {
		return errDeviceNotFound(id)
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
	if _, ok := s.store.find(id); !ok {
		return errDeviceNotFound(id)
	}
	adminJSON(w, http.StatusOK, map[string]int{"totalMessagesPurged": s.front.mail.purge(id)})
	return nil
}

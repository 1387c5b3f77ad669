package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/devices"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/wire"
)

// This file is the control endpoint: what control.go offers, for tests that
// run in another process. It is no part of the hub, so it has a listener of
// its own, which is off unless asked for.

// AdminHandler serves the control endpoint.
func (s *Server) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Origin") != "" {
				// A page in a browser has no business here, from wherever it came.
				adminError(w, http.StatusForbidden, "this endpoint does not serve browsers")
				return
			}
			err := f(w, r)
			if refusal, ok := errors.AsType[*refuse.Error](err); ok {
				adminError(w, refusal.Status, refusal.Error())
			} else if err != nil {
				adminError(w, http.StatusBadRequest, err.Error())
			}
		})
	}
	handle("GET /v1/status", s.adminStatus)
	handle("GET /v1/executed", s.adminExecuted)
	handle("GET /v1/executed/{device}", s.adminExecutedBy)
	handle("GET /v1/twins", s.adminTwins)
	handle("GET /v1/twins/{device}", s.adminTwin)
	handle("POST /v1/clock", s.adminClock)
	handle("PUT /v1/devices/{device}/presence", s.adminPresence)
	handle("GET /v1/devices/{device}/messages", s.adminQueue)
	handle("POST /v1/devices/{device}/messages", s.adminSend)
	handle("DELETE /v1/devices/{device}/messages", s.adminPurge)
	handle("GET /v1/devices/{device}/telemetry", s.adminTelemetry)
	handle("PUT /v1/faults", s.adminFaults)
	handle("PUT /v1/indexlag", s.adminIndexLag)
	handle("POST /v1/reset", s.adminReset)
	return mux
}

func adminError(w http.ResponseWriter, status int, text string) {
	adminJSON(w, status, map[string]string{"error": text})
}

func adminJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(append(wire.JSON(nil, v), '\n')) //nolint:errcheck // the client has gone; there is nobody to tell
}

// maxAdminBody bounds what a test may send.
const maxAdminBody = 4 << 20

// adminBody decodes a body, in which every key must be known.
func adminBody(r *http.Request, into any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxAdminBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	return nil
}

type adminStatusDoc struct {
	HostName  string                  `json:"hostName"`
	Now       time.Time               `json:"now"`
	Devices   int                     `json:"devices"`
	Connected int64                   `json:"connected"`
	Accepted  int                     `json:"accepted"` // connections to the service API since the start
	Executed  Executed                `json:"executed"`
	Faults    bool                    `json:"faults"`
	IndexLag  string                  `json:"indexLag"`
	Throttles map[string]throttleSeen `json:"throttles"`
}

type throttleSeen struct {
	Delayed int64 `json:"delayed"`
	Refused int64 `json:"refused"`
}

func (s *Server) adminStatus(w http.ResponseWriter, _ *http.Request) error {
	doc := adminStatusDoc{
		HostName: s.hostName, Now: s.Clock.Now().UTC(), Devices: s.Devices(), Connected: s.connectedCount(), Accepted: s.Accepted(),
		Faults: !s.FaultsOff.Load(), IndexLag: time.Duration(s.Store.Lag.Load()).String(), Throttles: map[string]throttleSeen{},
	}
	s.EachExecuted(func(_ string, e Executed) bool {
		doc.Executed.add(e)
		return true
	})
	for c := range core.ThrottleClasses {
		t := &s.Throttles[c]
		doc.Throttles[c.String()] = throttleSeen{Delayed: t.Delayed.Load(), Refused: t.Refused.Load()}
	}
	adminJSON(w, http.StatusOK, doc)
	return nil
}

// executedDoc is a line of GET /v1/executed.
type executedDoc struct {
	DeviceID string `json:"deviceId"`
	Executed
}

// adminExecuted writes one line for every device that did something.
func (s *Server) adminExecuted(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/x-ndjson")
	s.EachExecuted(func(id string, e Executed) bool {
		_, err := w.Write(append(wire.JSON(nil, executedDoc{id, e}), '\n'))
		return err == nil && r.Context().Err() == nil
	})
	return nil
}

func (s *Server) adminExecutedBy(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("device")
	if _, ok := s.Store.Find(id); !ok {
		return fmt.Errorf("device %q: no such device", id)
	}
	adminJSON(w, http.StatusOK, executedDoc{id, s.Executed(id)})
	return nil
}

// adminTwins writes one twin a line: those that were written to, or all.
func (s *Server) adminTwins(w http.ResponseWriter, r *http.Request) error {
	all := false
	if text := r.URL.Query().Get("all"); text != "" {
		var err error
		if all, err = strconv.ParseBool(text); err != nil {
			return fmt.Errorf("all=%q: want true or false", text)
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	s.EachTwin(all, func(twin []byte) bool {
		_, err := w.Write(append(twin, '\n'))
		return err == nil && r.Context().Err() == nil
	})
	return nil
}

func (s *Server) adminTwin(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("device")
	twin, ok := s.ModuleTwin(id, r.URL.Query().Get("module"))
	if !ok {
		return fmt.Errorf("device %q: no such device or module", id)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(append(twin, '\n')) //nolint:errcheck // the client has gone; there is nobody to tell
	return nil
}

// adminClock moves the clock: by a duration, or to a time.
func (s *Server) adminClock(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Advance string     `json:"advance"`
		Set     *time.Time `json:"set"`
	}
	if err := adminBody(r, &body); err != nil {
		return err
	}
	switch {
	case body.Set != nil && body.Advance == "":
		if err := s.SetTime(*body.Set); err != nil {
			return err
		}
	case body.Set == nil && body.Advance != "":
		d, err := time.ParseDuration(body.Advance)
		if err != nil {
			return fmt.Errorf("advance %q: want a duration such as 90s or 2h", body.Advance)
		}
		if err := s.Advance(d); err != nil {
			return err
		}
	default:
		return fmt.Errorf("want either advance, a duration, or set, a time")
	}
	adminJSON(w, http.StatusOK, map[string]time.Time{"now": s.Clock.Now().UTC()})
	return nil
}

// adminPresence connects or disconnects a simulated device, or leaves it to
// the fleet file again.
func (s *Server) adminPresence(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Online *bool `json:"online"`
	}
	if err := adminBody(r, &body); err != nil {
		return err
	}
	id := r.PathValue("device")
	var err error
	if body.Online == nil {
		err = s.ReleaseOnline(id)
	} else {
		err = s.SetOnline(id, *body.Online)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// adminFaults replaces the faults by a list as fleet files have it.
func (s *Server) adminFaults(w http.ResponseWriter, r *http.Request) error {
	src, err := io.ReadAll(io.LimitReader(r.Body, maxAdminBody))
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if err := s.ReplaceFaults("faults", src); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) adminIndexLag(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Lag string `json:"lag"`
	}
	if err := adminBody(r, &body); err != nil {
		return err
	}
	d, err := time.ParseDuration(body.Lag)
	if err != nil || d < 0 {
		return fmt.Errorf("lag %q: want a duration such as 0s or 30s", body.Lag)
	}
	s.SetIndexLag(d)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) adminReset(w http.ResponseWriter, _ *http.Request) error {
	s.Reset()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// listenAdmin opens the control endpoint.
func (s *Server) listenAdmin(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for control: %w", err)
	}
	s.adminAddr = ln.Addr().String()
	s.warnOpen("control", s.adminAddr)
	s.admin = &http.Server{Handler: s.AdminHandler(), ReadTimeout: headerDeadline, IdleTimeout: idleDeadline, MaxHeaderBytes: maxHeaderBytes}
	s.serving.Go(func() { s.served("control", s.admin.Serve(devices.NewBoundedListener(ln, maxAdminConnections))) })
	return nil
}

const maxAdminConnections = 64

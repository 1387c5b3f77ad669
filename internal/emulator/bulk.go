package emulator

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"

	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/refuse"
	"iothub-runner/internal/emulator/store"
	"iothub-runner/internal/emulator/twindoc"
	"iothub-runner/internal/emulator/wire"
)

// This file follows the service's REST reference for bulk registry operations
// ("Registry Manager - Bulk Registry Operations").

// maxBulk is how many devices one call may hold.
const maxBulk = 100

// wireImport is one device or module of a bulk call.
type wireImport struct {
	ID             string            `json:"id"`
	ModuleID       string            `json:"moduleId"`
	ETag           string            `json:"eTag"`
	TwinETag       string            `json:"twinETag"`
	ImportMode     string            `json:"importMode"`
	Status         string            `json:"status"`
	StatusReason   *string           `json:"statusReason"`
	Authentication *wireAuth         `json:"authentication"`
	Capabilities   *wireCapabilities `json:"capabilities"`
	DeviceScope    string            `json:"deviceScope"`
	ParentScopes   []string          `json:"parentScopes"`
	ManagedBy      string            `json:"managedBy"`
	Tags           json.RawMessage   `json:"tags"`
	Properties     struct {
		Desired json.RawMessage `json:"desired"`
	} `json:"properties"`
}

type wireBulkError struct {
	DeviceID    string `json:"deviceId"`
	ModuleID    string `json:"moduleId,omitempty"`
	ErrorCode   any    `json:"errorCode"` // number or name
	ErrorStatus string `json:"errorStatus"`
	Operation   string `json:"operation,omitempty"`
}

type wireBulkResult struct {
	IsSuccessful bool            `json:"isSuccessful"`
	Errors       []wireBulkError `json:"errors"`
	Warnings     []struct{}      `json:"warnings"`
}

// bulk serves POST /devices. Each device is done for itself: the result names
// those that were refused, and the others stay done.
func (x *exchange) bulk() *refuse.Error {
	items, refusal := x.bulkItems()
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(core.Nowhere(), len(items)); refusal != nil {
		return refusal
	}
	result := wireBulkResult{IsSuccessful: true, Errors: []wireBulkError{}, Warnings: []struct{}{}}
	arrays := apiVersion(x.r.URL.RawQuery) != versionBeforeArr
	for i := range items {
		it := &items[i]
		if refusal := x.importOne(it, arrays); refusal != nil {
			result.IsSuccessful = false
			result.Errors = append(result.Errors, x.bulkError(it, refusal))
		}
	}
	x.buf = wire.JSON(x.buf[:0], result)
	if !result.IsSuccessful {
		return &refuse.Error{Status: 400, Code: 400013, Name: "BulkRegistryOperationFailure", Shape: refuse.ShapeBulk, Body: x.buf}
	}
	return x.done(200)
}

func (s *Server) bulkError(it *wireImport, refusal *refuse.Error) wireBulkError {
	e := wireBulkError{DeviceID: it.ID, ModuleID: it.ModuleID, ErrorCode: refusal.Code, ErrorStatus: refusal.Text, Operation: it.ImportMode}
	if s.Does(core.KnobBulkErrorCode, "name") {
		e.ErrorCode = refusal.Name
	}
	return e
}

func (x *exchange) bulkItems() ([]wireImport, *refuse.Error) {
	body, refusal := x.body(maxBulkBody)
	if refusal != nil {
		return nil, refusal
	}
	var items []wireImport
	if !core.ValidJSON(body) || json.Unmarshal(body, &items) != nil {
		return nil, refuse.Format("The body of the request must be a JSON array of devices.")
	}
	if len(items) > maxBulk {
		return nil, &refuse.Error{Status: 413, Code: 413002, Name: "TooManyDevices", Text: "A call holds no more than 100 devices."}
	}
	seen := make(map[string]bool, len(items))
	for i := range items {
		if seen[items[i].ID] {
			return nil, &refuse.Error{Status: 400, Code: 400011, Name: "DeviceDefinedMultipleTimes", Text: "The device '" + items[i].ID + "' stands in the call more than once."}
		}
		seen[items[i].ID] = true
	}
	return items, nil
}

// importOne does what one item asks for.
func (s *Server) importOne(it *wireImport, arrays bool) *refuse.Error {
	if !store.ValidID(it.ID) || it.ModuleID != "" && !store.ValidID(it.ModuleID) {
		return refuse.Argument("An id has 1 to 128 characters: ASCII letters, digits and - : . + %% _ # * ? ! ( ) , = @ ; $ '.")
	}
	_, refusal := s.Store.Look(it.ID, it.ModuleID)
	known := refusal == nil
	switch strings.ToLower(it.ImportMode) {
	case "", "create":
		return s.importNew(it, arrays)
	case "createorupdate":
		if known {
			return s.importOver(it, twindoc.Condition{Given: true, Any: true})
		}
		return s.importNew(it, arrays)
	case "createorupdateifmatchetag":
		if known {
			return s.importOver(it, twindoc.Condition{Given: true, ETag: it.ETag})
		}
		return s.importNew(it, arrays)
	case "update":
		return s.importOver(it, twindoc.Condition{Given: true, Any: true})
	case "updateifmatchetag":
		return s.importOver(it, twindoc.Condition{Given: true, ETag: it.ETag})
	case "delete":
		return s.importDelete(it, twindoc.Condition{Given: true, Any: true})
	case "deleteifmatchetag":
		return s.importDelete(it, twindoc.Condition{Given: true, ETag: it.ETag})
	case "updatetwin":
		return s.importTwin(it, arrays, twindoc.Condition{Given: true, Any: true})
	case "updatetwinifmatchetag":
		return s.importTwin(it, arrays, twindoc.Condition{Given: true, ETag: it.TwinETag})
	}
	return refuse.Argument("The importMode '%s' is not known.", it.ImportMode)
}

func (it *wireImport) input() registryInput {
	return registryInput{
		Status: it.Status, StatusReason: it.StatusReason, Authentication: it.Authentication,
		Capabilities: it.Capabilities, DeviceScope: it.DeviceScope, ParentScopes: it.ParentScopes, ManagedBy: it.ManagedBy,
	}
}

// importNew creates a device or a module, with the twin that the item gives.
func (s *Server) importNew(it *wireImport, arrays bool) *refuse.Error {
	w, refusal := it.twinWrite(arrays)
	if refusal != nil {
		return refusal
	}
	if it.ModuleID != "" {
		_, refusal = s.writeModule(it.ID, it.ModuleID, it.input(), twindoc.Condition{})
	} else {
		_, refusal = s.register(it.ID, it.input())
	}
	if refusal != nil || w.Tags.Doc == nil && w.Desired.Doc == nil {
		return refusal
	}
	_, refusal = s.WriteTwin(it.ID, it.ModuleID, w)
	return refusal
}

func (s *Server) importOver(it *wireImport, match twindoc.Condition) *refuse.Error {
	if it.ModuleID != "" {
		_, refusal := s.writeModule(it.ID, it.ModuleID, it.input(), match)
		return refusal
	}
	_, refusal := s.updateDevice(it.ID, it.input(), match)
	return refusal
}

func (s *Server) importDelete(it *wireImport, match twindoc.Condition) *refuse.Error {
	if it.ModuleID != "" {
		return s.removeModule(it.ID, it.ModuleID, match)
	}
	return s.unregister(it.ID, match)
}

func (s *Server) importTwin(it *wireImport, arrays bool, match twindoc.Condition) *refuse.Error {
	w, refusal := it.twinWrite(arrays)
	if refusal != nil {
		return refusal
	}
	w.Condition = match
	_, refusal = s.WriteTwin(it.ID, it.ModuleID, w)
	return refusal
}

// twinWrite is what the item says of the twin.
func (it *wireImport) twinWrite(arrays bool) (twindoc.Write, *refuse.Error) {
	var w twindoc.Write
	if it.Tags != nil {
		if refusal := w.Tags.Read("tags", gjson.ParseBytes(it.Tags), arrays); refusal != nil {
			return w, refusal
		}
	}
	if it.Properties.Desired != nil {
		if refusal := w.Desired.Read("properties.desired", gjson.ParseBytes(it.Properties.Desired), arrays); refusal != nil {
			return w, refusal
		}
	}
	if w.Desired.Doc != nil {
		w.Text = w.Desired.Doc.AppendPatch(nil)
	}
	return w, nil
}

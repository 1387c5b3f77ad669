package emulator

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"
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
func (x *exchange) bulk() *apiError {
	items, refusal := x.bulkItems()
	if refusal != nil {
		return refusal
	}
	if refusal = x.pass(nowhere(), len(items)); refusal != nil {
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
	x.buf = appendJSON(x.buf[:0], result)
	if !result.IsSuccessful {
		return &apiError{status: 400, code: 400013, name: "BulkRegistryOperationFailure", shape: shapeBulk, body: x.buf}
	}
	return x.done(200)
}

func (s *Server) bulkError(it *wireImport, refusal *apiError) wireBulkError {
	e := wireBulkError{DeviceID: it.ID, ModuleID: it.ModuleID, ErrorCode: refusal.code, ErrorStatus: refusal.text, Operation: it.ImportMode}
	if s.does(knobBulkErrorCode, "name") {
		e.ErrorCode = refusal.name
	}
	return e
}

func (x *exchange) bulkItems() ([]wireImport, *apiError) {
	body, refusal := x.body(maxBulkBody)
	if refusal != nil {
		return nil, refusal
	}
	var items []wireImport
	if !validJSON(body) || json.Unmarshal(body, &items) != nil {
		return nil, errFormat("The body of the request must be a JSON array of devices.")
	}
	if len(items) > maxBulk {
		return nil, &apiError{status: 413, code: 413002, name: "TooManyDevices", text: "A call holds no more than 100 devices."}
	}
	seen := make(map[string]bool, len(items))
	for i := range items {
		if seen[items[i].ID] {
			return nil, &apiError{status: 400, code: 400011, name: "DeviceDefinedMultipleTimes", text: "The device '" + items[i].ID + "' stands in the call more than once."}
		}
		seen[items[i].ID] = true
	}
	return items, nil
}

// importOne does what one item asks for.
func (s *Server) importOne(it *wireImport, arrays bool) *apiError {
	if !validID(it.ID) || it.ModuleID != "" && !validID(it.ModuleID) {
		return errArgument("An id has 1 to 128 characters: ASCII letters, digits and - : . + %% _ # * ? ! ( ) , = @ ; $ '.")
	}
	_, refusal := s.store.look(it.ID, it.ModuleID)
	known := refusal == nil
	switch strings.ToLower(it.ImportMode) {
	case "", "create":
		return s.importNew(it, arrays)
	case "createorupdate":
		if known {
			return s.importOver(it, condition{given: true, any: true})
		}
		return s.importNew(it, arrays)
	case "createorupdateifmatchetag":
		if known {
			return s.importOver(it, condition{given: true, etag: it.ETag})
		}
		return s.importNew(it, arrays)
	case "update":
		return s.importOver(it, condition{given: true, any: true})
	case "updateifmatchetag":
		return s.importOver(it, condition{given: true, etag: it.ETag})
	case "delete":
		return s.importDelete(it, condition{given: true, any: true})
	case "deleteifmatchetag":
		return s.importDelete(it, condition{given: true, etag: it.ETag})
	case "updatetwin":
		return s.importTwin(it, arrays, condition{given: true, any: true})
	case "updatetwinifmatchetag":
		return s.importTwin(it, arrays, condition{given: true, etag: it.TwinETag})
	}
	return errArgument("The importMode '%s' is not known.", it.ImportMode)
}

func (it *wireImport) input() registryInput {
	return registryInput{
		Status: it.Status, StatusReason: it.StatusReason, Authentication: it.Authentication,
		Capabilities: it.Capabilities, DeviceScope: it.DeviceScope, ParentScopes: it.ParentScopes, ManagedBy: it.ManagedBy,
	}
}

// importNew creates a device or a module, with the twin that the item gives.
func (s *Server) importNew(it *wireImport, arrays bool) *apiError {
	w, refusal := it.twinWrite(arrays)
	if refusal != nil {
		return refusal
	}
	if it.ModuleID != "" {
		_, refusal = s.writeModule(it.ID, it.ModuleID, it.input(), condition{})
	} else {
		_, refusal = s.register(it.ID, it.input())
	}
	if refusal != nil || w.tags.doc == nil && w.desired.doc == nil {
		return refusal
	}
	_, refusal = s.writeTwin(it.ID, it.ModuleID, w)
	return refusal
}

func (s *Server) importOver(it *wireImport, match condition) *apiError {
	if it.ModuleID != "" {
		_, refusal := s.writeModule(it.ID, it.ModuleID, it.input(), match)
		return refusal
	}
	_, refusal := s.updateDevice(it.ID, it.input(), match)
	return refusal
}

func (s *Server) importDelete(it *wireImport, match condition) *apiError {
	if it.ModuleID != "" {
		return s.removeModule(it.ID, it.ModuleID, match)
	}
	return s.unregister(it.ID, match)
}

func (s *Server) importTwin(it *wireImport, arrays bool, match condition) *apiError {
	w, refusal := it.twinWrite(arrays)
	if refusal != nil {
		return refusal
	}
	w.condition = match
	_, refusal = s.writeTwin(it.ID, it.ModuleID, w)
	return refusal
}

// twinWrite is what the item says of the twin.
func (it *wireImport) twinWrite(arrays bool) (twinWrite, *apiError) {
	var w twinWrite
	if it.Tags != nil {
		if refusal := w.tags.read("tags", gjson.ParseBytes(it.Tags), arrays); refusal != nil {
			return w, refusal
		}
	}
	if it.Properties.Desired != nil {
		if refusal := w.desired.read("properties.desired", gjson.ParseBytes(it.Properties.Desired), arrays); refusal != nil {
			return w, refusal
		}
	}
	if w.desired.doc != nil {
		w.text = w.desired.doc.appendPatch(nil)
	}
	return w, nil
}

package emulator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// loadSwagger reads Microsoft's description of the service, corrected where it
// is known to differ from the wire, and with objects closed: an answer may not
// have a member that the description does not.
func loadSwagger(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	src, err := os.ReadFile("testdata/swagger/iothub-service-2020-09-30.swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	var old openapi2.T
	if err := json.Unmarshal(src, &old); err != nil {
		t.Fatal(err)
	}
	old.Host = "localhost"
	doc, err := openapi2conv.ToV3(&old)
	if err != nil {
		t.Fatal(err)
	}
	correctSwagger(doc)
	closed := false
	for _, ref := range doc.Components.Schemas {
		if len(ref.Value.Properties) > 0 {
			ref.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &closed}
		}
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

// correctSwagger lists what is known to be wrong in the description.
func correctSwagger(doc *openapi3.T) {
	schema := func(name string) *openapi3.Schema { return doc.Components.Schemas[name].Value }
	anything := openapi3.NewSchemaRef("", &openapi3.Schema{Nullable: true})
	// Payloads and properties are any JSON, not just objects.
	schema("CloudToDeviceMethod").Properties["payload"] = anything
	schema("CloudToDeviceMethodResult").Properties["payload"] = anything
	free := openapi3.NewSchemaRef("", &openapi3.Schema{Type: &openapi3.Types{"object"}})
	schema("Twin").Properties["tags"] = free
	schema("ExportImportDevice").Properties["tags"] = free
	for _, name := range []string{"TwinProperties", "PropertyContainer"} {
		schema(name).Properties["desired"], schema(name).Properties["reported"] = free, free
	}
	// The wire has nulls.
	for name, members := range map[string][]string{
		"Device": {"statusReason"}, "Module": {"managedBy"}, "PurgeMessageQueueResult": {"moduleId"},
		"SymmetricKey": {"primaryKey", "secondaryKey"}, "X509Thumbprint": {"primaryThumbprint", "secondaryThumbprint"},
	} {
		for _, m := range members {
			schema(name).Properties[m].Value.Nullable = true
		}
	}
	// Twins of plug and play devices came later.
	schema("Twin").Properties["modelId"] = openapi3.NewSchemaRef("", openapi3.NewStringSchema())
	// The list of jobs is a bare array, with its token in a header.
	jobs := openapi3.NewArraySchema()
	jobs.Items = &openapi3.SchemaRef{Ref: "#/components/schemas/JobResponse", Value: schema("JobResponse")}
	ok := doc.Paths.Value("/jobs/v2/query").Get.Responses.Value("200").Value
	ok.Content["application/json"].Schema = openapi3.NewSchemaRef("", jobs)
}

// notEmulatedPaths are those that the description has and the emulator has not.
func notEmulatedPaths() []string {
	return []string{"/configurations", "/digitaltwins", "/messages", "/jobs/create", "/jobs/{id}", "/devices/{id}/applyConfigurationContent"}
}

func TestAnswersMatchTheSwagger(t *testing.T) {
	doc, router := loadSwagger(t)
	h := newHub(t, moods)
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	requests := []struct{ method, path, body, match string }{
		{"GET", "/statistics/devices", "", ""},
		{"GET", "/statistics/service", "", ""},
		{"GET", "/devices?top=2", "", ""},
		{"PUT", "/devices/new", `{"deviceId":"new","status":"enabled","authentication":{"type":"sas"}}`, ""},
		{"PUT", "/devices/new", `{"deviceId":"new","status":"disabled","statusReason":"lost","capabilities":{"iotEdge":true}}`, `"*"`},
		{"GET", "/devices/new", "", ""},
		{"GET", "/devices/ok", "", ""},
		{"PUT", "/devices/new/modules/m", `{"moduleId":"m","deviceId":"new"}`, ""},
		{"PUT", "/devices/new/modules/m", `{"moduleId":"m","deviceId":"new","managedBy":"me"}`, `"*"`},
		{"GET", "/devices/new/modules", "", ""},
		{"GET", "/devices/new/modules/m", "", ""},
		{"PATCH", "/twins/ok", `{"tags":{"a":1},"properties":{"desired":{"b":[1,2]}}}`, ""},
		{"PUT", "/twins/ok", `{"tags":{"a":{"b":"c"}},"properties":{"desired":{}}}`, `"*"`},
		{"GET", "/twins/ok", "", ""},
		{"GET", "/twins/new", "", ""},
		{"GET", "/twins/ok/modules/valve", "", ""},
		{"PATCH", "/twins/ok/modules/valve", `{"properties":{"desired":{"x":1}}}`, ""},
		{"PUT", "/twins/new/modules/m", `{"tags":{}}`, ""},
		{"POST", "/twins/ok/methods", `{"methodName":"lockDoor","payload":"text","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":5}`, ""},
		{"POST", "/twins/ok/modules/valve/methods", `{"methodName":"quiet"}`, ""},
		{"POST", "/devices/query", `{"query":"SELECT * FROM devices"}`, ""},
		{"POST", "/devices", `[{"id":"b1","importMode":"create","tags":{"x":1}},{"id":"b2","importMode":"create"}]`, ""},
		{"POST", "/devices", `[{"id":"b1","importMode":"create"},{"id":"b3","moduleId":"m","importMode":"updateTwin"}]`, ""},
		{"DELETE", "/devices/b1/commands", "", ""},
		{"DELETE", "/devices/new/modules/m", "", `"*"`},
		{"DELETE", "/devices/new", "", `"*"`},
		{"PUT", "/jobs/v2/j1", methodJob("j1", "deviceId = 'ok'", "lockDoor"), ""},
		{"PUT", "/jobs/v2/j2", twinJob("j2", "*", `{"etag":"*","tags":{"a":1}}`, `,"startTime":"`+later+`"`), ""},
		{"GET", "/jobs/v2/j1", "", ""},
		{"GET", "/jobs/v2/query", "", ""},
		{"POST", "/jobs/v2/j2/cancel", "", ""},
		{"GET", "/jobs", "", ""},
	}
	seen := map[string]bool{}
	for _, r := range requests {
		t.Run(r.method+" "+r.path, func(t *testing.T) {
			seen[validated(t, h, router, r.method, r.path, r.body, r.match)] = true
		})
	}
	var missing []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !seen[method+" "+path] && !startsWithAny(path, notEmulatedPaths()) {
				missing = append(missing, method+" "+path)
			}
		}
	}
	sort.Strings(missing)
	if len(missing) > 0 {
		t.Errorf("operations of the description that no request here covers:\n%s", strings.Join(missing, "\n"))
	}
}

func startsWithAny(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// validated sends a request and checks both directions. It returns the
// operation as the description names it.
func validated(t *testing.T, h testHub, router routers.Router, method, path, body, match string) string {
	t.Helper()
	target := "https://localhost" + path
	if strings.Contains(path, "?") {
		target += "&api-version=2020-09-30"
	} else {
		target += "?api-version=2020-09-30"
	}
	request := func() *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		r.Header.Set("Authorization", h.token)
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		if match != "" {
			r.Header.Set("If-Match", match)
		}
		return r
	}
	r := request()
	found, params, err := router.FindRoute(r)
	if err != nil {
		t.Fatalf("the description has no such operation: %v", err)
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: found, Options: &openapi3filter.Options{MultiError: true}}
	if err := openapi3filter.ValidateRequest(t.Context(), in); err != nil {
		t.Fatalf("the request is not as described: %v", err)
	}
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, request())
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options: &openapi3filter.Options{MultiError: true, IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(t.Context(), out); err != nil {
		t.Errorf("the answer %d %s is not as described: %v", w.Code, w.Body, err)
	}
	return method + " " + found.Path
}

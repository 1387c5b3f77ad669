package swagger

import "github.com/getkin/kin-openapi/openapi3"

// Correction is a point on which the description is wrong about the wire.
type Correction struct {
	Where string
	Why   string
	apply func(*openapi3.T)
}

// Corrections is everything that is known to be wrong in the description.
func Corrections() []Correction {
	return []Correction{
		{"CloudToDeviceMethod.payload, CloudToDeviceMethodResult.payload", "described as an object; any JSON value is carried, null included", func(doc *openapi3.T) {
			schema(doc, "CloudToDeviceMethod").Properties["payload"] = anything()
			schema(doc, "CloudToDeviceMethodResult").Properties["payload"] = anything()
		}},
		{"Twin.tags, ExportImportDevice.tags, desired, reported", "described as objects whose members are objects; tags and properties are any JSON", func(doc *openapi3.T) {
			for _, name := range []string{"Twin", "ExportImportDevice"} {
				schema(doc, name).Properties["tags"] = anyObject()
			}
			for _, name := range []string{"TwinProperties", "PropertyContainer"} {
				schema(doc, name).Properties["desired"], schema(doc, name).Properties["reported"] = anyObject(), anyObject()
			}
		}},
		{"Device.statusReason, Module.managedBy, PurgeMessageQueueResult.moduleId, SymmetricKey, X509Thumbprint", "described as strings; the hub shows null for what is not set", allowNulls},
		{"Twin.modelId", "not described; added for Plug and Play devices later", func(doc *openapi3.T) {
			schema(doc, "Twin").Properties["modelId"] = openapi3.NewSchemaRef("", openapi3.NewStringSchema())
		}},
		{"DeviceRegistryOperationError.errorCode", "described as a name; import logs show numbers, and clients that read only numbers worked with the hub. Either is let pass", func(doc *openapi3.T) {
			p := schema(doc, "DeviceRegistryOperationError").Properties
			p["errorCode"] = openapi3.NewSchemaRef("", &openapi3.Schema{OneOf: openapi3.SchemaRefs{p["errorCode"], openapi3.NewSchemaRef("", openapi3.NewInt32Schema())}})
		}},
		{"GET /jobs/v2/query", "described as an object of type, items and token; clients that work read a bare array, and the token from a header", func(doc *openapi3.T) {
			jobs := openapi3.NewArraySchema()
			jobs.Items = &openapi3.SchemaRef{Ref: "#/components/schemas/JobResponse", Value: schema(doc, "JobResponse")}
			ok := doc.Paths.Value("/jobs/v2/query").Get.Responses.Value("200").Value
			ok.Content["application/json"].Schema = openapi3.NewSchemaRef("", jobs)
		}},
		{"POST /devices/query", "described as a list of twins; projections, groups and devices.jobs give rows of other shapes", func(doc *openapi3.T) {
			rows := openapi3.NewArraySchema()
			rows.Items = &openapi3.SchemaRef{Value: &openapi3.Schema{AnyOf: openapi3.SchemaRefs{
				&openapi3.SchemaRef{Ref: "#/components/schemas/Twin", Value: schema(doc, "Twin")},
				rowWithout("etag", "properties"),
			}}}
			ok := doc.Paths.Value("/devices/query").Post.Responses.Value("200").Value
			ok.Content["application/json"].Schema = openapi3.NewSchemaRef("", rows)
		}},
	}
}

func schema(doc *openapi3.T, name string) *openapi3.Schema { return doc.Components.Schemas[name].Value }

func anything() *openapi3.SchemaRef {
	return openapi3.NewSchemaRef("", &openapi3.Schema{Nullable: true})
}

func anyObject() *openapi3.SchemaRef {
	return openapi3.NewSchemaRef("", &openapi3.Schema{Type: &openapi3.Types{"object"}})
}

// rowWithout is an object that is not a whole twin: one of the members is
// missing.
func rowWithout(members ...string) *openapi3.SchemaRef {
	return openapi3.NewSchemaRef("", &openapi3.Schema{
		Type: &openapi3.Types{"object"},
		Not:  openapi3.NewSchemaRef("", &openapi3.Schema{Type: &openapi3.Types{"object"}, Required: members}),
	})
}

func allowNulls(doc *openapi3.T) {
	for name, members := range map[string][]string{
		"Device": {"statusReason"}, "Module": {"managedBy"}, "PurgeMessageQueueResult": {"moduleId"},
		"SymmetricKey": {"primaryKey", "secondaryKey"}, "X509Thumbprint": {"primaryThumbprint", "secondaryThumbprint"},
	} {
		for _, m := range members {
			schema(doc, name).Properties[m].Value.Nullable = true
		}
	}
}

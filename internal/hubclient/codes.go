package hubclient

import (
	"net/http"

	"iothub-runner/internal/hub"
)

// codeOf returns the number of an error that came by name alone; 0 if the name
// is not known to have one.
func codeOf(name string) int {
	for _, c := range codes() {
		if c.name == name {
			return c.number
		}
	}
	return 0
}

// nameOf returns the name of an error that came by number alone.
func nameOf(number int) string {
	for _, c := range codes() {
		if c.number == number {
			return c.name
		}
	}
	return ""
}

type code struct {
	number int
	name   string
}

// codes lists the errors of the service side. Both sides of an answer are
// optional in practice, so that each must be found by the other.
func codes() []code {
	return []code{
		{400001, "InvalidProtocolVersion"},
		{400003, "InvalidOperation"},
		{400004, "ArgumentInvalid"},
		{400005, "ArgumentNull"},
		{400006, "IotHubFormatError"},
		{400011, "DeviceDefinedMultipleTimes"},
		{400013, "BulkRegistryOperationFailure"},
		{400020, "IotHubSuspended"},
		{400027, "ConnectionForcefullyClosedOnNewConnection"},
		{400103, "InvalidContentEncodingOrType"},
		{400301, "CannotRegisterModuleToModule"},
		{401002, "IotHubUnauthorizedAccess"},
		{401003, "IotHubUnauthorized"},
		{403001, "JobQuotaExceeded"},
		{403002, "IotHubQuotaExceeded"},
		{403004, "DeviceMaximumQueueDepthExceeded"},
		{403006, "DeviceMaximumActiveFileUploadLimitExceeded"},
		{403010, "OperationNotAvailableInCurrentTier"},
		{404001, "DeviceNotFound"},
		{404002, "JobNotFound"},
		{404010, "ModuleNotFound"},
		{404103, "DeviceNotOnline"},
		{404104, "DeviceConnectionClosedRemotely"},
		{404301, "ConfigurationNotFound"},
		{409001, "DeviceAlreadyExists"},
		{409002, "LinkCreationConflict"},
		{409301, "ModuleAlreadyExistsOnDevice"},
		{412001, "PreconditionFailed"},
		{413001, "MessageTooLarge"},
		{413002, "TooManyDevices"},
		{413003, "TooManyModulesOnDevice"},
		{429000, "GenericTooManyRequests"},
		{429001, "ThrottlingException"},
		{429002, "ThrottleBacklogLimitExceeded"},
		{429003, "ThrottlingBacklogTimeout"},
		{429004, "ThrottlingMaxActiveJobCountExceeded"},
		{429005, "DeviceThrottlingLimitExceeded"},
		{500001, "ServerError"},
		{500008, "GenericTimeout"},
		{503001, "ServiceUnavailable"},
		{503003, "PartitionNotFound"},
		{504101, "GatewayTimeout"},
	}
}

// kindOf decides by the hub's number where it tells more than the status: two
// 404s differ in kind, one permanent and one that passes.
func kindOf(status, number int) hub.Kind {
	switch number {
	case 404103:
		return hub.KindOffline
	case 404104, 400027:
		return hub.KindNoAnswer // the device's connection went away under the call
	}
	switch status {
	case http.StatusUnauthorized:
		return hub.KindUnauthorized
	case http.StatusForbidden:
		return hub.KindForbidden
	case http.StatusNotFound:
		return hub.KindNotFound
	case http.StatusConflict:
		return hub.KindConflict
	case http.StatusPreconditionFailed:
		return hub.KindPrecondition
	case http.StatusTooManyRequests:
		return hub.KindThrottled
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return hub.KindNoAnswer
	}
	// A request timeout passes; every other refusal of the kind stays.
	if status >= 400 && status < 500 && status != http.StatusRequestTimeout {
		return hub.KindInvalid
	}
	return hub.KindServer
}

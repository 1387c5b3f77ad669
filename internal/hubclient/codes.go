package hubclient

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"iothub-runner/internal/hub"
)

// documented lists the errors of the service side, number and name, that
// Microsoft documents in "Troubleshoot Azure IoT Hub error codes" of January
// 2026, and 503003, which only its SDKs know. A name that two numbers share is
// that of the first: 404103 is what comes on the wire, 404102 stands in the
// page's table.
const documented = `
400000 GenericBadRequest
400001 InvalidProtocolVersion
400002 DeviceInvalidResultCount
400003 InvalidOperation
400004 ArgumentInvalid
400005 ArgumentNull
400006 IotHubFormatError
400007 DeviceStorageEntitySerializationError
400008 BlobContainerValidationError
400009 ImportWarningExistsError
400010 InvalidSchemaVersion
400011 DeviceDefinedMultipleTimes
400012 DeserializationError
400013 BulkRegistryOperationFailure
400014 DefaultStorageEndpointNotConfigured
400015 InvalidFileUploadCorrelationId
400016 ExpiredFileUploadCorrelationId
400017 InvalidStorageEndpoint
400018 InvalidMessagingEndpoint
400019 InvalidFileUploadCompletionStatus
400020 InvalidStorageEndpointOrBlob
400021 RequestCanceled
400022 InvalidStorageEndpointProperty
400023 EtagDoesNotMatch
400024 RequestTimedOut
400025 UnsupportedOperationOnReplica
400026 NullMessage
400027 ConnectionForcefullyClosedOnNewConnection
400028 InvalidDeviceScope
400029 ConnectionForcefullyClosedOnFaultInjection
400030 ConnectionRejectedOnFaultInjection
400031 InvalidEndpointAuthenticationType
400032 ManagedIdentityNotEnabled
400035 InvalidPolicyKey
400036 BulkRegenerateDeviceKeyOperationFailure
400100 InvalidRouteTestInput
400101 InvalidSourceOnRoute
400102 RoutingNotEnabled
400103 InvalidContentEncodingOrType
400301 CannotRegisterModuleToModule
400302 TenantHubRoutingNotEnabled
400401 InvalidConfigurationTargetCondition
400402 InvalidConfigurationContent
400403 CannotModifyImmutableConfigurationContent
400404 InvalidConfigurationCustomMetricsQuery
400501 InvalidPnPInterfaceDefinition
400502 InvalidPnPDesiredProperties
400503 InvalidPnPReportedProperties
400504 InvalidPnPWritableReportedProperties
400505 InvalidDigitalTwinJsonPatch
400506 InvalidDigitalTwinPayload
400507 InvalidDigitalTwinPatch
400508 InvalidDigitalTwinPatchPath
401000 GenericUnauthorized
401001 IotHubNotFound
401002 IotHubUnauthorizedAccess
401003 IotHubUnauthorized
401004 ElasticPoolNotFound
401100 SystemModuleModifyUnauthorizedAccess
403000 GenericForbidden
403001 IotHubSuspended
403002 IotHubQuotaExceeded
403003 JobQuotaExceeded
403004 DeviceMaximumQueueDepthExceeded
403005 IotHubMaxCbsTokenExceeded
403006 DeviceMaximumActiveFileUploadLimitExceeded
403007 DeviceMaximumQueueSizeExceeded
403008 RoutingEndpointResponseForbidden
403009 InvalidMessageExpiryTime
403010 OperationNotAvailableInCurrentTier
403011 KeyEncryptionKeyRevoked
403012 DeviceDisabled
403100 DeviceModelMaxPropertiesExceeded
403101 DeviceModelMaxIndexablePropertiesExceeded
403800 DeviceMaximumInflightMethodExceeded
404000 GenericNotFound
404001 DeviceNotFound
404002 JobNotFound
404004 QuotaMetricNotFound
404005 SystemPropertyNotFound
404006 AmqpAddressNotFound
404007 RoutingEndpointResponseNotFound
404008 CertificateNotFound
404009 ElasticPoolTenantHubNotFound
404010 ModuleNotFound
404011 AzureTableStoreNotFound
404012 IotHubFailingOver
404013 FeatureNotSupported
404014 DigitalTwinInterfaceNotFound
404101 QueryStoreClusterNotFound
404103 DeviceNotOnline
404102 DeviceNotOnline
404104 DeviceConnectionClosedRemotely
404301 ConfigurationNotFound
404302 GroupNotFound
404401 DigitalTwinModelNotFound
404402 InterfaceNameModelNotFound
405000 GenericMethodNotAllowed
405102 OperationNotAllowedInCurrentState
405103 ImportDevicesNotSupported
405104 BulkAddDevicesNotSupported
409000 GenericConflict
409001 DeviceAlreadyExists
409002 LinkCreationConflict
409003 CallbackSubscriptionConflict
409101 ModelAlreadyExists
409102 DeviceLocked
409103 DeviceJobAlreadyExists
409104 JobAlreadyExists
409301 ModuleAlreadyExistsOnDevice
409401 ConfigurationAlreadyExists
409402 ApplyConfigurationAlreadyInProgressOnDevice
409501 DigitalTwinModelAlreadyExists
409502 DigitalTwinModelExistsWithOtherModelType
409503 InterfaceNameModelAlreadyExists
412000 GenericPreconditionFailed
412001 PreconditionFailed
412002 DeviceMessageLockLost
412003 JobRunPreconditionFailed
412004 InflightMessagesInLink
413000 GenericRequestEntityTooLarge
413001 MessageTooLarge
413002 TooManyDevices
413003 TooManyModulesOnDevice
413101 ConfigurationCountLimitExceeded
413201 DigitalTwinModelCountLimitExceeded
413202 InterfaceNameCompressionModelCountLimitExceeded
415000 GenericUnsupportedMediaType
415101 IncompatibleDataType
429000 GenericTooManyRequests
429001 ThrottlingException
429002 ThrottleBacklogLimitExceeded
429003 ThrottlingBacklogTimeout
429004 ThrottlingMaxActiveJobCountExceeded
429005 DeviceThrottlingLimitExceeded
499000 ClientClosedRequest
500001 ServerError
500008 GenericTimeout
500301 ModelRepoEndpointError
500302 ResolutionError
500401 UnableToFetchCredentials
500402 UnableToFetchTenantInfo
500403 UnableToShareIdentity
500501 UnableToExpandDiscoveryInfo
500502 UnableToExpandComponentInfo
500503 UnableToCompressComponentInfo
500504 UnableToCompressDiscoveryInfo
500505 OrphanDiscoveryDocument
502000 GenericBadGateway
503000 GenericServiceUnavailable
503001 ServiceUnavailable
503003 PartitionNotFound
503004 IotHubActivationFailed
503005 ServerBusy
503006 IotHubRestoring
503008 ReceiveLinkOpensThrottled
503101 ConnectionUnavailable
503102 DeviceUnavailable
503201 ConfigurationNotAvailable
503202 GroupNotAvailable
503301 HostingServiceNotAvailable
504000 GenericGatewayTimeout
504101 GatewayTimeout
`

// kindOfCode returns the kind of an error whose number tells more than its
// status; 0 for the others.
func kindOfCode(number int) hub.Kind {
	switch number {
	case 400021, 400024, 400027, 404104, 499000:
		return hub.KindNoAnswer // the call, or the device's connection, went away while it was under way
	case 400029, 400030, 403002, 403800, 404012:
		return hub.KindNotReady
	case 404102, 404103:
		return hub.KindOffline
	case 400023:
		return hub.KindPrecondition
	}
	return 0
}

// hangsOnCode tells whether refusals with a status differ in whether the call
// can have had an effect, so that the status alone decides nothing.
func hangsOnCode(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusNotFound || status == statusClientClosed
}

// codeTable finds errors by either side: number and name are both optional in
// practice.
type codeTable struct {
	numbers map[string]int
	names   map[int]string
}

var codes = sync.OnceValue(func() codeTable { //nolint:gochecknoglobals // a constant table, read once
	t := codeTable{numbers: map[string]int{}, names: map[int]string{}}
	for line := range strings.Lines(documented) {
		text, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, err := strconv.Atoi(text)
		if err != nil {
			continue // the empty lines around the table
		}
		t.names[number] = name
		if t.numbers[name] == 0 {
			t.numbers[name] = number
		}
	}
	return t
})

// codeOf returns the number of an error that came by name alone; 0 if the name
// is not known to have one.
func codeOf(name string) int { return codes().numbers[name] }

// nameOf returns the name of an error that came by number alone.
func nameOf(number int) string { return codes().names[number] }

// kindOf decides by the hub's number where it tells more than the status: two
// 404s differ in kind, one permanent and one that passes.
func kindOf(status, number int) hub.Kind {
	if kind := kindOfCode(number); kind != 0 {
		return kind
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
	case http.StatusBadGateway, http.StatusGatewayTimeout, statusClientClosed:
		return hub.KindNoAnswer
	}
	// A request timeout passes; every other refusal of the kind stays.
	if status >= 400 && status < 500 && status != http.StatusRequestTimeout {
		return hub.KindInvalid
	}
	return hub.KindServer
}

// statusClientClosed is what a gateway calls a request whose sender has hung up
// while it was under way.
const statusClientClosed = 499

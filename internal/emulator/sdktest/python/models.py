"""What goes over the wire, as msrest's serializer and deserializer want it told.

Microsoft's service clients for Python are generated: a class for each schema of
the service's description, with a map of its attributes. These are ours, for the
schemas that the programs here need. The deserializer is strict about types and
times, so a hub that writes them differently is found out.
"""
from msrest.serialization import Model


def schema(name, **attributes):
    """A model by its attributes: python_name=("nameOnTheWire", "type")."""
    keys = {attr: {"key": key, "type": kind} for attr, (key, kind) in attributes.items()}

    def __init__(self, **values):
        unknown = set(values) - set(keys)
        if unknown:
            raise TypeError(f"{name} has no {sorted(unknown)}")
        for attr in keys:
            setattr(self, attr, values.get(attr))

    return type(name, (Model,), {"__init__": __init__, "_attribute_map": keys, "_validation": {}})


SymmetricKey = schema(
    "SymmetricKey",
    primary_key=("primaryKey", "str"),
    secondary_key=("secondaryKey", "str"),
)
X509Thumbprint = schema(
    "X509Thumbprint",
    primary_thumbprint=("primaryThumbprint", "str"),
    secondary_thumbprint=("secondaryThumbprint", "str"),
)
Authentication = schema(
    "Authentication",
    symmetric_key=("symmetricKey", "SymmetricKey"),
    x509_thumbprint=("x509Thumbprint", "X509Thumbprint"),
    type=("type", "str"),
)
Device = schema(
    "Device",
    device_id=("deviceId", "str"),
    generation_id=("generationId", "str"),
    etag=("etag", "str"),
    connection_state=("connectionState", "str"),
    status=("status", "str"),
    status_reason=("statusReason", "str"),
    connection_state_updated_time=("connectionStateUpdatedTime", "iso-8601"),
    status_updated_time=("statusUpdatedTime", "iso-8601"),
    last_activity_time=("lastActivityTime", "iso-8601"),
    cloud_to_device_message_count=("cloudToDeviceMessageCount", "int"),
    authentication=("authentication", "Authentication"),
)
Module = schema(
    "Module",
    module_id=("moduleId", "str"),
    device_id=("deviceId", "str"),
    managed_by=("managedBy", "str"),
    etag=("etag", "str"),
    authentication=("authentication", "Authentication"),
)
TwinProperties = schema(
    "TwinProperties",
    desired=("desired", "{object}"),
    reported=("reported", "{object}"),
)
Twin = schema(
    "Twin",
    device_id=("deviceId", "str"),
    module_id=("moduleId", "str"),
    tags=("tags", "{object}"),
    properties=("properties", "TwinProperties"),
    etag=("etag", "str"),
    version=("version", "long"),
    device_etag=("deviceEtag", "str"),
    status=("status", "str"),
    status_update_time=("statusUpdateTime", "iso-8601"),
    connection_state=("connectionState", "str"),
    last_activity_time=("lastActivityTime", "iso-8601"),
    cloud_to_device_message_count=("cloudToDeviceMessageCount", "int"),
    authentication_type=("authenticationType", "str"),
)
QuerySpecification = schema("QuerySpecification", query=("query", "str"))
Method = schema(
    "Method",
    method_name=("methodName", "str"),
    payload=("payload", "object"),
    response_timeout_in_seconds=("responseTimeoutInSeconds", "int"),
    connect_timeout_in_seconds=("connectTimeoutInSeconds", "int"),
)
MethodResult = schema("MethodResult", status=("status", "int"), payload=("payload", "object"))
JobRequest = schema(
    "JobRequest",
    job_id=("jobId", "str"),
    type=("type", "str"),
    cloud_to_device_method=("cloudToDeviceMethod", "Method"),
    update_twin=("updateTwin", "Twin"),
    query_condition=("queryCondition", "str"),
    start_time=("startTime", "iso-8601"),
    max_execution_time_in_seconds=("maxExecutionTimeInSeconds", "long"),
)
JobStatistics = schema(
    "JobStatistics",
    device_count=("deviceCount", "int"),
    failed_count=("failedCount", "int"),
    succeeded_count=("succeededCount", "int"),
    running_count=("runningCount", "int"),
    pending_count=("pendingCount", "int"),
)
JobResponse = schema(
    "JobResponse",
    job_id=("jobId", "str"),
    type=("type", "str"),
    status=("status", "str"),
    query_condition=("queryCondition", "str"),
    created_time=("createdTime", "iso-8601"),
    start_time=("startTime", "iso-8601"),
    end_time=("endTime", "iso-8601"),
    max_execution_time_in_seconds=("maxExecutionTimeInSeconds", "long"),
    failure_reason=("failureReason", "str"),
    status_message=("statusMessage", "str"),
    device_job_statistics=("deviceJobStatistics", "JobStatistics"),
)
RegistryStatistics = schema(
    "RegistryStatistics",
    total_device_count=("totalDeviceCount", "long"),
    enabled_device_count=("enabledDeviceCount", "long"),
    disabled_device_count=("disabledDeviceCount", "long"),
)

ALL = {
    name: kind for name, kind in list(globals().items())
    if isinstance(kind, type) and issubclass(kind, Model) and kind is not Model
}

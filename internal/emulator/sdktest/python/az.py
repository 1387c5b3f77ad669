"""The az CLI's service client: the same generated models as Microsoft's Python
client, with other tokens, headers and habits. Its extension is not on the package
index; what it was recorded to send is sent here over msrest, as it does."""
import base64
import hashlib
import hmac
import time
import uuid
from urllib.parse import quote

from azure.iot.hub import models
from msrest import Configuration, Deserializer, Serializer, ServiceClient
from msrest.authentication import Authentication
from msrest.exceptions import HttpOperationError

import hub

KINDS = {name: kind for name, kind in vars(models).items() if isinstance(kind, type)}


class Signed(Authentication):
    """Its fields are in another order, and no slash is escaped in the signature."""

    def signed_session(self, session=None):
        session = super().signed_session(session)
        owner = dict(field.split("=", 1) for field in hub.connection_string().split(";"))
        resource, expiry = quote(hub.SERVICE_HOST, safe=""), int(time.time()) + 3600
        mac = hmac.new(base64.b64decode(owner["SharedAccessKey"]), f"{resource}\n{expiry}".encode(), hashlib.sha256)
        sig = quote(base64.b64encode(mac.digest()).decode(), safe="/")
        session.headers[self.header] = f"SharedAccessSignature sig={sig}&se={expiry}&skn={owner['SharedAccessKeyName']}&sr={resource}"
        return session


class Az:
    """The hub's REST API. Answers that are no success raise HttpOperationError."""

    def __init__(self):
        config = Configuration(base_url=f"https://{hub.SERVICE_HOST}")
        config.add_user_agent("IoTPlatformCliExtension/0.23")
        config.credentials = Signed()
        config.retry_policy.backoff_factor = 0
        self.client = ServiceClient(None, config)
        self.serialize, self.deserialize = Serializer(KINDS), Deserializer(KINDS)

    def call(self, verb, path, body=None, kind=None, answer=None, headers=None, params=None):
        """One request; body is of the model kind, the answer of the type answer."""
        # The content type goes out on GET as well.
        sent = {
            "Accept": "application/json", "Content-Type": "application/json; charset=utf-8",
            "x-ms-client-request-id": str(uuid.uuid1()), "accept-language": "en-US", **(headers or {}),
        }
        args = {} if body is None else {"content": self.serialize.body(body, kind)}
        make = getattr(self.client, verb.lower())
        request = make(self.client.format_url(path), {"api-version": "2021-04-12", **(params or {})}, sent, **args)
        self.last = self.client.send(request, stream=False)
        if self.last.status_code not in (200, 204):
            raise HttpOperationError(self.deserialize, self.last)
        return self.deserialize(answer, self.last) if answer else None

"""A service client on msrest, as the generated ones are."""
from msrest import Configuration, Deserializer, Serializer, ServiceClient
from msrest.authentication import Authentication
from msrest.exceptions import HttpOperationError

import hub
import models


class Signed(Authentication):
    """Puts a shared access signature on every session."""

    def __init__(self, make_token):
        self.make_token = make_token

    def signed_session(self, session=None):
        session = super().signed_session(session)
        session.headers[self.header] = self.make_token()
        return session


class Service:
    """The hub's REST API. Answers that are no success raise HttpOperationError."""

    def __init__(self, make_token=None, user_agent="py-azure-iot-hub/2.6", headers=()):
        config = Configuration(base_url=f"https://{hub.SERVICE_HOST}")
        config.add_user_agent(user_agent)
        config.credentials = Signed(make_token or signed_by(hub.OWNER))
        # What is repeated is the library's affair, but for two things. Nobody
        # learns anything from waiting in between. And urllib3 1.26 forgets
        # msrest's list of methods after the first repetition, so that POST and
        # PATCH have one only; the SDK was recorded with all three.
        config.retry_policy.backoff_factor = 0
        config.retry_policy.policy.allowed_methods = config.retry_policy.policy.method_whitelist
        self.config = config
        self.client = ServiceClient(None, config)
        self.headers = dict(headers)
        self.serialize = Serializer(models.ALL)
        self.deserialize = Deserializer(models.ALL)

    def call(self, verb, path, body=None, kind=None, answer=None, headers=None, params=None, ok=(200,)):
        """One request; body is of the model kind, the answer of the type answer."""
        # The content type goes out on GET as well.
        sent = {"Accept": "application/json", "Content-Type": "application/json; charset=utf-8"}
        sent.update(self.headers)
        sent.update(headers or {})
        query = {"api-version": "2021-04-12"}
        query.update(params or {})
        content = None if body is None else self.serialize.body(body, kind)
        make = getattr(self.client, verb.lower())
        args = {} if verb == "GET" and content is None else {"content": content}
        request = make(self.client.format_url(path), query, sent, **args)
        response = self.client.send(request, stream=False)
        if response.status_code not in ok:
            raise HttpOperationError(self.deserialize, response)
        self.last = response
        return self.deserialize(answer, response) if answer else None

    # ---- what the tutorial's service client has ----

    def query(self, text, page=None, continuation=None):
        """One page of twins, and the token of the next."""
        headers = {}
        if page is not None:
            headers["x-ms-max-item-count"] = self.serialize.header("page", page, "str")
        if continuation is not None:
            headers["x-ms-continuation"] = self.serialize.header("continuation", continuation, "str")
        rows = self.call("POST", "/devices/query", models.QuerySpecification(query=text), "QuerySpecification", "[Twin]", headers)
        return rows, self.last.headers.get("x-ms-continuation")

    def get_twin(self, device_id):
        return self.call("GET", f"/twins/{device_id}", answer="Twin")

    def update_twin(self, device_id, twin, etag):
        return self.call("PATCH", f"/twins/{device_id}", twin, "Twin", "Twin", if_match(etag))

    def replace_twin(self, device_id, twin, etag):
        return self.call("PUT", f"/twins/{device_id}", twin, "Twin", "Twin", if_match(etag))

    def invoke(self, device_id, method):
        return self.call("POST", f"/twins/{device_id}/methods", method, "Method", "MethodResult")

    def put_device(self, device, etag=None):
        return self.call("PUT", f"/devices/{device.device_id}", device, "Device", "Device", if_match(etag) if etag else None)

    def get_device(self, device_id):
        return self.call("GET", f"/devices/{device_id}", answer="Device")

    def delete_device(self, device_id, etag="*"):
        self.call("DELETE", f"/devices/{device_id}", headers=if_match(etag), ok=(204,))

    def create(self, device_id):
        """A new device with the keys that the hub makes: empty ones ask for that."""
        keys = models.SymmetricKey(primary_key="", secondary_key="")
        device = models.Device(device_id=device_id, status="enabled", authentication=models.Authentication(type="sas", symmetric_key=keys))
        return self.put_device(device).authentication.symmetric_key.primary_key


def if_match(etag):
    """Quoted, a star as well."""
    return {"If-Match": f'"{etag}"'}


def signed_by(policy):
    """Makes tokens with the key of a policy."""
    return lambda: hub.token(hub.SERVICE_HOST, policy["SharedAccessKey"], policy["SharedAccessKeyName"])

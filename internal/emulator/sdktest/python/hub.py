"""What the test programs share: the hub under test, and hands on the emulator.

It stands on the libraries that Microsoft's Python SDKs stand on, msrest and
requests for services, paho-mqtt for devices, and drives them as the SDKs were
recorded to. It is not the SDKs: what they do above these libraries is ours here.
"""
import base64
import hashlib
import hmac
import json
import os
import time
import urllib.request
from urllib.parse import quote

HOST = os.environ["HUB_HOST"]
HTTPS_PORT = int(os.environ["HUB_HTTPS_PORT"])
MQTT_PORT = int(os.environ["HUB_MQTT_PORT"])
CA_FILE = os.environ["HUB_CA_FILE"]

WRONG_KEY = base64.b64encode(b"a wrong key of thirty-two bytes!").decode()


def fields(connection_string):
    """The fields of a connection string."""
    return dict(field.split("=", 1) for field in connection_string.split(";"))


OWNER = fields(os.environ["HUB_CONNECTION_STRING"])
POLICIES = {name: fields(text) for name, text in json.loads(os.environ["HUB_POLICIES"]).items()}

# Python's service client takes a port in HostName, which signs for it too.
SERVICE_HOST = HOST if HTTPS_PORT == 443 else f"{HOST}:{HTTPS_PORT}"


def signature(resource, key, expiry):
    """The base64 of what signs for a resource until then."""
    text = f"{quote(resource, safe='')}\n{expiry}".encode()
    return base64.b64encode(hmac.new(base64.b64decode(key), text, hashlib.sha256).digest()).decode()


def token(resource, key, policy=None):
    """A shared access signature with its fields as the Python SDKs order them."""
    expiry = int(time.time()) + 3600
    sig = quote(signature(resource, key, expiry), safe="")
    text = f"SharedAccessSignature sr={quote(resource, safe='')}&sig={sig}&se={expiry}"
    return f"{text}&skn={policy}" if policy else text


def _control(method, path, body=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{os.environ['HUB_ADMIN_PORT']}{path}", method=method,
        data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=20) as response:
        text = response.read()
    return json.loads(text) if text else None


def executed(device_id):
    """What a device really did: methods, patches, messages."""
    return _control("GET", f"/v1/executed/{quote(device_id, safe='')}")


def advance(by):
    """Moves the hub's clock forward, by a Go duration."""
    _control("POST", "/v1/clock", {"advance": by})


def set_faults(faults):
    """Replaces the hub's faults."""
    _control("PUT", "/v1/faults", faults)


def eventually(what, probe, seconds=20):
    """Asks again until probe returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        got = probe()
        if got:
            return got
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)

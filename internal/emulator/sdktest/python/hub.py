"""What the test programs share: the hub under test, and hands on the emulator.

The clients are Microsoft's own, as requirements.txt pins them. They know no
ports but those of every hub; route() sends them to the ports of this one.
"""
import json
import os
import time
import urllib.request
from urllib.parse import quote

from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from paho.mqtt import client as mqtt

HOST = os.environ["HUB_HOST"]
HTTPS_PORT = int(os.environ["HUB_HTTPS_PORT"])
MQTT_PORT = int(os.environ["HUB_MQTT_PORT"])
with open(os.environ["HUB_CA_FILE"], encoding="ascii") as _ca:
    CA = _ca.read()

# The service client takes a port in HostName, which signs for it too.
SERVICE_HOST = HOST if HTTPS_PORT == 443 else f"{HOST}:{HTTPS_PORT}"
WRONG_KEY = "YSB3cm9uZyBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE="


def connection_string(policy="iothubowner", key=None):
    """What the portal shows for a policy, with another key if one is given."""
    given = json.loads(os.environ["HUB_POLICIES"])[policy].replace(f"HostName={HOST}", f"HostName={SERVICE_HOST}")
    return f"{given[:given.rindex('SharedAccessKey=')]}SharedAccessKey={key}" if key else given


def device_string(device_id, key, module_id=None):
    """The connection string of a device or of a module."""
    module = f";ModuleId={module_id}" if module_id else ""
    return f"HostName={HOST};DeviceId={device_id}{module};SharedAccessKey={key}"


def _impatient(manager):
    # Nobody learns anything from the time between two attempts. What is sent
    # again, and how often, stays the library's affair.
    manager.protocol.config.retry_policy.backoff_factor = 0
    return manager


def registry(connection=None):
    """Microsoft's client for devices, twins, queries and methods."""
    return _impatient(IoTHubRegistryManager.from_connection_string(connection or connection_string()))


def jobs():
    """Microsoft's client for the hub's jobs."""
    return _impatient(IoTHubJobManager.from_connection_string(connection_string()))


def route():
    """Has every MQTT connection of this process go to the hub's ports."""
    ports, connect = {443: HTTPS_PORT, 8883: MQTT_PORT}, mqtt.Client.connect

    def to_the_hub(self, host, port=1883, **more):
        return connect(self, host, port=ports[port], **more)

    mqtt.Client.connect = to_the_hub


def _control(method, path, body=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{os.environ['HUB_ADMIN_PORT']}{path}", method=method,
        data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=20) as response:
        text = response.read().decode()
    return json.loads(text) if text else None


def executed(device_id):
    """What a device really did: methods, patches, messages."""
    return _control("GET", f"/v1/executed/{quote(device_id, safe='')}")


def telemetry(device_id):
    """The messages that the hub has of a device, oldest first."""
    return _control("GET", f"/v1/devices/{quote(device_id, safe='')}/telemetry")


def post(device_id, message):
    """Queues a cloud-to-device message, which services send over AMQP."""
    _control("POST", f"/v1/devices/{quote(device_id, safe='')}/messages", message)


def mailbox(device_id):
    """The cloud-to-device messages that no device has acknowledged."""
    return _control("GET", f"/v1/devices/{quote(device_id, safe='')}/messages")


def set_faults(*faults):
    """Replaces the hub's faults."""
    _control("PUT", "/v1/faults", list(faults))


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

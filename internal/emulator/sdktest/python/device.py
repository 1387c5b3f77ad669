"""A device on paho-mqtt, driven as azure-iot-device drives it."""
import json
import queue
import ssl
import threading
import uuid
from urllib.parse import quote, unquote

from paho.mqtt import client as mqtt

import hub

AGENT = quote("azure-iot-device/2.11.0(py3)", safe="")
DEADLINE = 20


class Refused(Exception):
    """The hub answered CONNECT with a code other than 0."""

    def __init__(self, code):
        super().__init__(f"CONNACK with code {code}")
        self.code = code


class Device:
    """One connection. Methods are answered by handlers, other messages queue."""

    def __init__(self, device_id, key, websockets=False, module_id=None, stray=""):
        who = f"{device_id}/{module_id}" if module_id else device_id
        self.id, self.handlers = device_id, {}
        self.patches, self.replies, self.mail = queue.Queue(), {}, queue.Queue()
        self._granted, self._sent = queue.Queue(), {}
        self._lock = threading.Lock()
        self._connack, self.ended = queue.Queue(), threading.Event()
        resource = f"{hub.HOST}/devices/{device_id}" + (f"/modules/{module_id}" if module_id else "")
        c = mqtt.Client(client_id=who, clean_session=False, protocol=mqtt.MQTTv311, transport="websockets" if websockets else "tcp")
        if websockets:
            c.ws_set_options(path="/$iothub/websocket")
        c.username_pw_set(f"{hub.HOST}/{who}/?api-version=2019-10-01&DeviceClientType={AGENT}{stray}", hub.token(resource, key))
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the name, too
        with open(hub.CA_FILE, encoding="ascii") as ca:
            trust.load_verify_locations(cadata=ca.read())
        c.tls_set_context(trust)
        c.on_connect = lambda _c, _u, _flags, code: self._connack.put(code)
        c.on_disconnect = lambda _c, _u, _code: self.ended.set()
        c.on_message = lambda _c, _u, message: self._on_message(message)
        c.on_subscribe = lambda _c, _u, _mid, granted: self._granted.put(granted)
        c.on_publish = lambda _c, _u, mid: self._event(mid).set()
        self.client = c
        self.port = hub.HTTPS_PORT if websockets else hub.MQTT_PORT

    def __enter__(self):
        return self.open()

    def __exit__(self, *_):
        self.close()

    def open(self):
        self.client.connect(hub.HOST, port=self.port, keepalive=60)
        self.client.loop_start()
        code = self._connack.get(timeout=DEADLINE)
        if code:
            self.close()
            raise Refused(code)
        return self

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _event(self, mid):
        with self._lock:
            return self._sent.setdefault(mid, threading.Event())

    def publish(self, topic, body):
        """QoS 1, and waits until the hub has it."""
        self.publish_soon(topic, body)()

    def publish_soon(self, topic, body):
        """QoS 1. What it returns waits until the hub has it."""
        _, mid = self.client.publish(topic, body, qos=1)

        def wait():
            if not self._event(mid).wait(DEADLINE):
                raise AssertionError(f"no PUBACK for {topic}")

        return wait

    def subscribe(self, *filters):
        for text in filters:
            self.client.subscribe(text, qos=1)
            granted = self._granted.get(timeout=DEADLINE)
            if list(granted) != [1]:
                raise AssertionError(f"SUBSCRIBE {text}: granted {granted}, want QoS 1")

    def _on_message(self, message):
        topic, body = message.topic, message.payload.decode()
        if topic.startswith("$iothub/methods/POST/"):
            name, query = topic.split("/")[3], topic.split("?", 1)[1]
            # The loop's thread reads: an answer is sent and not waited for.
            status, answer = self.handlers[unquote(name)](json.loads(body))
            self.client.publish(f"$iothub/methods/res/{status}/?{query}", json.dumps(answer), qos=1)
        elif topic.startswith("$iothub/twin/PATCH/properties/desired"):
            self.patches.put(json.loads(body))
        elif topic.startswith("$iothub/twin/res/"):
            status, query = topic.split("/")[3], dict(part.split("=", 1) for part in topic.split("?", 1)[1].split("&"))
            self.replies[query["$rid"]].put((int(status), body, query))
        else:
            self.mail.put((topic, body))

    def answer_methods(self, **handlers):
        self.handlers.update(handlers)
        self.subscribe("$iothub/methods/POST/#")

    def _ask(self, topic, body):
        rid = str(uuid.uuid4())
        self.replies[rid] = queue.Queue()
        self.publish(topic.format(rid), body)
        return self.replies[rid].get(timeout=DEADLINE)

    def get_twin(self):
        status, body, _ = self._ask("$iothub/twin/GET/?$rid={}", " ")
        if status != 200:
            raise AssertionError(f"get twin: {status} {body}")
        return json.loads(body)

    def report(self, patch):
        """The status, and the version that the report made."""
        status, body, query = self._ask("$iothub/twin/PATCH/properties/reported/?$rid={}", json.dumps(patch))
        return status, int(query.get("$version", 0)), body

    def send(self, body, **properties):
        text = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in properties.items())
        self.publish(f"devices/{self.id}/messages/events/{text}", body)

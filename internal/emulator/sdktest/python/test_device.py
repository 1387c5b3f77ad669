"""Microsoft's device client: over MQTT and web sockets, by key and certificate."""
import hashlib
import os
import ssl
import tempfile
import threading
import unittest

from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse, X509
from azure.iot.device import exceptions
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

import hub

hub.route()

EVERY_KIND = ({"a": [1, None]}, "text", "", 42.5, 0, True, False, [1, "two", {}], {}, [])


class Case(unittest.TestCase):
    """Runs with a key over MQTT; the classes below change how it connects."""

    options = {}

    def setUp(self):
        self.service = hub.registry()
        self.addCleanup(hub.set_faults)
        self.id = f"{type(self).__name__}-{self._testMethodName}"
        self.register()

    def register(self):
        made = self.service.create_device_with_sas(self.id, "", "", "enabled")
        self.key = made.authentication.symmetric_key.primary_key

    def client(self, key=None, **options):
        """A client of the test's device, which the test's end shuts down."""
        made = IoTHubDeviceClient.create_from_connection_string(
            hub.device_string(self.id, key or self.key), **self.settings(options))
        self.addCleanup(made.shutdown)
        return made

    def settings(self, options):
        return {"server_verification_cert": hub.CA, "connection_retry_interval": 1, **self.options, **options}

    def answer(self, client, answer):
        """Has the client answer every method with what answer makes of the request."""
        def handle(request):
            status, payload = answer(request)
            client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))
        client.on_method_request_received = handle

    def call(self, payload, name="echo"):
        return self.service.invoke_device_method(self.id, CloudToDeviceMethod(
            method_name=name, payload=payload, response_timeout_in_seconds=20, connect_timeout_in_seconds=20))

    def send(self, client, text):
        """Sends telemetry over a connection that breaks. Most often the client sends it again
        itself; when it noticed the break before it had sent, it leaves that to the program."""
        def sent():
            try:
                client.send_message(text)
            except exceptions.ClientError:
                return False
            return True
        hub.eventually("the message is sent", sent)

    def desire(self, desired, **more):
        return self.service.update_twin(self.id, Twin(properties=TwinProperties(desired=desired), **more), "*")


class ByKey(Case):
    def test_methods(self):
        names = []

        def echo(request):
            names.append(request.name)
            return 201, request.payload

        self.answer(self.client(), echo)
        for payload in EVERY_KIND:
            result = self.call(payload)
            self.assertEqual((result.status, result.payload), (201, payload))
        self.assertEqual(self.call(1, "a name/with %7E signs").status, 201)
        self.assertEqual(names[-1], "a name/with %7E signs")
        self.assertEqual(hub.executed(self.id)["methods"], len(EVERY_KIND) + 1)

    def test_a_method_without_answer_payload(self):
        self.answer(self.client(), lambda request: (404, None))
        result = self.call({})
        self.assertEqual((result.status, result.payload), (404, None))

    def test_twin(self):
        self.desire({"floor": 1, "gone": "soon"}, tags={"hidden": True})
        client = self.client()
        client.connect()
        self.assertEqual(client.get_twin(), {"desired": {"floor": 1, "gone": "soon", "$version": 2}, "reported": {"$version": 1}})

        client.patch_twin_reported_properties({"floor": 2, "firmware": {"version": "1.2", "old": True}})
        client.patch_twin_reported_properties({"firmware": {"old": None}})
        reported = self.service.get_twin(self.id).properties.reported
        self.assertEqual((reported["floor"], reported["firmware"], reported["$version"]), (2, {"version": "1.2"}, 3))

        with self.assertRaises(exceptions.ClientError):
            client.patch_twin_reported_properties({"a b": 1})
        client.patch_twin_reported_properties({"still": "here"})

    def test_desired_patches(self):
        patches, came = [], threading.Event()
        client = self.client()

        def keep(patch):
            patches.append(patch)
            if len(patches) == 2:
                came.set()

        client.on_twin_desired_properties_patch_received = keep
        self.desire({"floor": 2, "deep": {"er": [1, {}]}})
        self.service.update_twin(self.id, Twin(tags={"hidden": False}), "*")  # tells the device nothing
        self.desire({"floor": None})
        self.assertTrue(came.wait(20))
        self.assertEqual(patches, [{"floor": 2, "deep": {"er": [1, {}]}, "$version": 2}, {"floor": None, "$version": 3}])

    def test_telemetry(self):
        message = Message('{"temperature": 21}', message_id="m/1", content_encoding="utf-8", content_type="application/json")
        message.correlation_id, message.user_id = "c 1", "someone"
        message.custom_properties["alert"] = "a b/c&d=ü"
        client = self.client()
        client.send_message(message)
        client.send_message("plain")
        first, second = hub.telemetry(self.id)
        self.assertEqual((first["body"], second["body"]), ('{"temperature": 21}', "plain"))
        want = {"$.mid": "m/1", "$.cid": "c 1", "$.uid": "someone", "$.ct": "application/json", "$.ce": "utf-8", "alert": "a b/c&d=ü"}
        self.assertEqual({k: first["properties"].get(k) for k in want}, want)

    def test_messages_from_the_cloud(self):
        hub.post(self.id, {"messageId": "early", "body": "waits for the device"})
        got, came = [], threading.Event()
        client = self.client()

        def keep(message):
            got.append(message)
            if len(got) == 2:
                came.set()

        client.on_message_received = keep
        hub.post(self.id, {"properties": {"a b": "1/2", "$.ct": "text/plain", "$.cid": "c"}, "body": "ü"})
        self.assertTrue(came.wait(20))
        self.assertEqual([m.data.decode() for m in got], ["waits for the device", "ü"])
        self.assertEqual((got[0].message_id, got[1].custom_properties, got[1].content_type, got[1].correlation_id), ("early", {"a b": "1/2"}, "text/plain", "c"))
        hub.eventually("both are acknowledged", lambda: not hub.mailbox(self.id))

    def test_comes_back_after_the_hub_dropped_it(self):
        client = self.client()
        self.answer(client, lambda request: (200, request.payload))
        came = watch(client)
        hub.set_faults({"fault": "resetBefore", "operations": ["telemetry"], "devices": [self.id], "calls": "1"})
        self.send(client, "lost at first")
        hub.eventually("the client connects again", lambda: came.count(True) >= 1 and client.connected)
        self.assertEqual({m["body"] for m in hub.telemetry(self.id)}, {"lost at first"})
        self.assertEqual(self.call("after").payload, "after")
        client.patch_twin_reported_properties({"again": True})
        self.assertEqual(came[:2], [False, True])

    def test_a_lost_acknowledgement_sends_again(self):
        client = self.client()
        hub.set_faults({"fault": "resetAfter", "operations": ["telemetry"], "devices": [self.id], "calls": "1"})
        self.send(client, "twice")
        bodies = [m["body"] for m in hub.telemetry(self.id)]
        self.assertEqual((set(bodies), len(bodies) > 1), ({"twice"}, True))

    def test_the_hub_refuses_for_a_while(self):
        hub.set_faults({"fault": "unavailable", "operations": ["connect"], "devices": [self.id], "calls": "1-2"})
        for _ in range(2):  # to repeat the first connection is the program's affair
            with self.assertRaises(exceptions.ConnectionFailedError):
                self.client(connection_retry=False).connect()
        client = self.client()
        client.connect()
        self.assertTrue(client.connected)

    def test_the_hub_is_gone_before_the_twin_comes(self):
        client = self.client()
        client.connect()
        hub.set_faults({"fault": "throttled", "operations": ["twinGet"], "devices": [self.id], "calls": "1"})
        with self.assertRaises(exceptions.ClientError):
            client.get_twin()
        self.assertIn("desired", client.get_twin())


class OverWebSockets(ByKey):
    options = {"websockets": True}


class ByCertificate(ByKey):
    def register(self):
        certificate = os.environ["DEVICE_CERTIFICATE"]
        thumbprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest().upper()
        self.service.create_device_with_x509(self.id, thumbprint, "", "enabled")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.files = []
        for name, text in (("cert.pem", certificate), ("key.pem", os.environ["DEVICE_KEY"])):
            self.files.append(os.path.join(directory.name, name))
            with open(self.files[-1], "w", encoding="ascii") as file:
                file.write(text)

    def client(self, key=None, **options):
        made = IoTHubDeviceClient.create_from_x509_certificate(
            X509(cert_file=self.files[0], key_file=self.files[1]), hub.HOST, self.id, **self.settings(options))
        self.addCleanup(made.shutdown)
        return made


class ByCertificateOverWebSockets(ByCertificate):
    options = {"websockets": True}


class Keys(Case):
    def test_the_secondary_key(self):
        self.client(self.service.get_device(self.id).authentication.symmetric_key.secondary_key).connect()

    def test_a_wrong_key(self):
        for wrong in (hub.WRONG_KEY, self.other_key()):
            with self.assertRaises(exceptions.CredentialError):
                self.client(wrong, connection_retry=False).connect()

    def other_key(self):
        return self.service.create_device_with_sas(self.id + "-other", "", "", "enabled").authentication.symmetric_key.primary_key

    def test_a_disabled_device(self):
        client = self.client(connection_retry=False)
        client.connect()
        came = watch(client)
        self.service.update_device_with_sas(self.id, "*", self.key, self.key, "disabled")
        hub.eventually("the permission ends the connection", lambda: came == [False])
        with self.assertRaises(exceptions.CredentialError):
            client.connect()

    def test_the_token_is_renewed_on_the_way(self):
        # The client renews two minutes before the end.
        client = self.client(sastoken_ttl=122)
        self.answer(client, lambda request: (200, request.payload))
        came = watch(client)
        hub.eventually("the client connects with a new token", lambda: came[:2] == [False, True])
        self.assertEqual(self.call("after").payload, "after")

    def test_who_comes_second_takes_over(self):
        first, second = self.client(connection_retry=False), self.client(connection_retry=False)
        first.connect()
        came = watch(first)
        second.connect()
        hub.eventually("the first loses its connection", lambda: came == [False])
        self.assertTrue(second.connected)


class Modules(Case):
    def test_has_methods_a_twin_and_messages_of_its_own(self):
        made = self.service.create_module_with_sas(self.id, "engine", "", "", "")
        client = IoTHubModuleClient.create_from_connection_string(
            hub.device_string(self.id, made.authentication.symmetric_key.primary_key, "engine"), **self.settings({}))
        self.addCleanup(client.shutdown)
        self.answer(client, lambda request: (200, {"started": request.payload}))
        for payload in EVERY_KIND:
            result = self.service.invoke_device_module_method(self.id, "engine", CloudToDeviceMethod(method_name="start", payload=payload))
            self.assertEqual(result.payload, {"started": payload})
        client.patch_twin_reported_properties({"rpm": 900})
        client.send_message("warm")
        self.assertEqual(self.service.get_module_twin(self.id, "engine").properties.reported["rpm"], 900)
        self.assertNotIn("rpm", self.service.get_twin(self.id).properties.reported)
        self.assertEqual([(m["moduleId"], m["body"]) for m in hub.telemetry(self.id)], [("engine", "warm")])


def watch(client):
    """What the client has seen of its connection since now: True when it came, False when it went."""
    came = []
    client.on_connection_state_change = lambda: came.append(client.connected)
    return came


if __name__ == "__main__":
    unittest.main()

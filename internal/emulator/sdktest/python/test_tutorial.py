"""What the two programs of "Schedule and broadcast jobs (Python)" do: a device
that answers lockDoor and hears of its desired properties, and a service that
asks for the device, patches its twin under the etag it read, and calls the
method with a payload that is a string of JSON.

The text is Microsoft's and not kept here. Where HUB_TUTORIAL names a file with
it, its programs run too, unchanged but for the places it says to fill in.
"""
import os
import queue
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest

from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub.models import CloudToDeviceMethod, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

import hub

hub.route()

DESIRED = {"building": 43, "floor": 3}


class Case(unittest.TestCase):
    def setUp(self):
        self.service = hub.registry()
        self.id = f"myDevice-{self._testMethodName}"
        self.key = self.service.create_device_with_sas(self.id, "", "", "enabled").authentication.symmetric_key.primary_key

    def executed_once_each(self):
        done = hub.executed(self.id)
        self.assertEqual((done["methods"], done["patches"]), (1, 1))


class Tutorial(Case):
    def found(self):
        query = QuerySpecification(query=f"SELECT * FROM devices WHERE deviceId = '{self.id}'")
        return len(self.service.query_iot_hub(query, None, 1).items)

    def both_jobs(self, **options):
        calls, patches = [], queue.Queue()
        client = IoTHubDeviceClient.create_from_connection_string(
            hub.device_string(self.id, self.key), server_verification_cert=hub.CA, **options)
        self.addCleanup(client.shutdown)

        def lock_door(request):
            calls.append((request.name, request.payload))
            client.send_method_response(MethodResponse.create_from_method_request(request, 200, {"Response": "lockDoor called successfully"}))

        client.on_method_request_received = lock_door
        client.on_twin_desired_properties_patch_received = patches.put

        self.assertEqual(self.found(), 1)
        read = self.service.get_twin(self.id)
        change = Twin(properties=TwinProperties(desired=DESIRED))
        after = self.service.update_twin(self.id, change, read.etag)
        self.assertEqual(after.properties.desired["building"], 43)
        self.assertEqual(patches.get(timeout=20), {**DESIRED, "$version": 2})

        self.assertEqual(self.found(), 1)
        result = self.service.invoke_device_method(self.id, CloudToDeviceMethod(method_name="lockDoor", payload='{"lockTime":"10m"}'))
        self.assertEqual((result.status, result.payload), (200, {"Response": "lockDoor called successfully"}))
        self.assertEqual(calls, [("lockDoor", '{"lockTime":"10m"}')])

        with self.assertRaises(HttpOperationError) as stale:
            self.service.update_twin(self.id, change, read.etag)
        self.assertEqual(stale.exception.response.headers["iothub-errorcode"], "PreconditionFailed")
        self.executed_once_each()

    def test_over_mqtt(self):
        self.both_jobs()

    def test_over_web_sockets(self):
        self.both_jobs(websockets=True)

    def test_a_device_that_is_not_registered(self):
        query = QuerySpecification(query="SELECT * FROM devices WHERE deviceId = 'nobody'")
        self.assertEqual(self.service.query_iot_hub(query, None, 1).items, [])


def programs(text):
    """The device's and the service's program, put together from the text's blocks."""
    blocks = [textwrap.dedent(block) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    made, current = [], ""
    for block in blocks:
        current += block
        if "__main__" in block:
            made.append(current)
            current = ""
    return made


if "HUB_TUTORIAL" in os.environ:
    class FromItsText(Case):
        def start(self, source, **fields):
            for name, value in fields.items():
                self.assertIn("{%s}" % name, source)
                source = source.replace("{%s}" % name, value)
            file = tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8")
            self.addCleanup(file.close)
            file.write(source)
            file.flush()
            run = "import hub, runpy, sys; hub.route(); runpy.run_path(sys.argv[1], run_name='__main__')"
            process = subprocess.Popen(
                [sys.executable, "-u", "-c", run, file.name], text=True, encoding="utf-8",
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "SSL_CERT_FILE": os.environ["HUB_CA_FILE"]})
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            return process

        def read_until(self, process, end):
            text = ""
            while end not in text:
                line = process.stdout.readline()
                self.assertTrue(line, text)
                text += line
            return text

        def test_the_two_programs(self):
            with open(os.environ["HUB_TUTORIAL"], encoding="utf-8") as file:
                device_source, service_source = programs(file.read())
            device = self.start(device_source, deviceConnectionString=hub.device_string(self.id, self.key))
            self.read_until(device, "waiting for commands")
            service = self.start(service_source, IoTHubConnectionString=hub.connection_string(), deviceId=self.id)
            said = self.read_until(service, "Direct method lockDoor called.")
            self.assertLess(said.index("Device twin updated."), said.index("Direct method lockDoor called."))
            said = self.read_until(device, "Locking Door!")
            self.assertIn("Twin desired properties patch received:\n{'building': 43, 'floor': 3, '$version': 2}", said)
            self.executed_once_each()


if __name__ == "__main__":
    unittest.main()

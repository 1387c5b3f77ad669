"""What the two programs of "Schedule and broadcast jobs (Python)" do: a device
that answers lockDoor and hears of its desired properties, and a service that
asks for the device, patches its twin under the etag it read, and calls the
method with a payload that is a string of JSON."""
import unittest

from msrest.exceptions import HttpOperationError

import hub
from device import Device
from models import Method, Twin, TwinProperties
from service import Service


class Tutorial(unittest.TestCase):
    def setUp(self):
        self.service = Service()
        self.id = f"myDevice-{self._testMethodName}"
        self.key = self.service.create(self.id)

    def found(self):
        rows, more = self.service.query(f"SELECT * FROM devices WHERE deviceId = '{self.id}'", page=1)
        self.assertIsNone(more)
        return len(rows)

    def both_jobs(self, websockets):
        calls = []

        def lock_door(payload):
            calls.append(payload)
            return 200, {"Response": "lockDoor called successfully"}

        with Device(self.id, self.key, websockets) as device:
            device.answer_methods(lockDoor=lock_door)
            device.subscribe("$iothub/twin/PATCH/properties/desired/#", "$iothub/twin/res/#")

            self.assertEqual(self.found(), 1)
            read = self.service.get_twin(self.id)
            change = Twin(properties=TwinProperties(desired={"building": 43, "floor": 3}))
            after = self.service.update_twin(self.id, change, read.etag)
            self.assertEqual(after.properties.desired["building"], 43)
            self.assertEqual(device.patches.get(timeout=20), {"building": 43, "floor": 3, "$version": 2})

            self.assertEqual(self.found(), 1)
            result = self.service.invoke(self.id, Method(method_name="lockDoor", payload='{"lockTime":"10m"}'))
            self.assertEqual((result.status, result.payload), (200, {"Response": "lockDoor called successfully"}))
            self.assertEqual(calls, ['{"lockTime":"10m"}'])

            with self.assertRaises(HttpOperationError) as stale:
                self.service.update_twin(self.id, change, read.etag)
            self.assertEqual(stale.exception.response.status_code, 412)
            self.assertEqual(stale.exception.response.headers["iothub-errorcode"], "PreconditionFailed")
            done = hub.executed(self.id)
            self.assertEqual((done["methods"], done["patches"]), (1, 1))

    def test_over_mqtt(self):
        self.both_jobs(websockets=False)

    def test_over_web_sockets(self):
        self.both_jobs(websockets=True)

    def test_a_device_that_is_not_registered(self):
        self.assertEqual(self.service.query("SELECT * FROM devices WHERE deviceId = 'nobody'", page=1)[0], [])


if __name__ == "__main__":
    unittest.main()

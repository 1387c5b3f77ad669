"""The device client beyond the tutorial, over MQTT and over web sockets."""
import json
import unittest

import hub
import models
from device import Device, Refused
from models import Method, Twin, TwinProperties
from service import Service


class Case(unittest.TestCase):
    def setUp(self):
        self.service = Service()

    def desire(self, device_id, desired, **more):
        return self.service.update_twin(device_id, Twin(properties=TwinProperties(desired=desired), **more), "*")


class OverMQTT(Case):
    websockets = False

    def register(self, name):
        self.id = f"{name}-{'ws' if self.websockets else 'mqtt'}"
        self.key = self.service.create(self.id)
        return self.id

    def device(self, key=None):
        return Device(self.id, key or self.key, self.websockets)

    def test_methods(self):
        self.register("methods")
        with self.device() as device:
            device.answer_methods(echo=lambda payload: (201, payload))
            for payload in ({"a": [1, None]}, "text", "", 42.5, 0, False, [1, {}], {}):
                result = self.service.invoke(self.id, Method(method_name="echo", payload=payload))
                self.assertEqual((result.status, result.payload), (201, payload))
            # Without payload the device reads null.
            self.assertIsNone(self.service.invoke(self.id, Method(method_name="echo")).payload)

    def test_twin(self):
        self.register("twin")
        self.desire(self.id, {"floor": 1, "gone": "soon"}, tags={"hidden": True})
        with self.device() as device:
            device.subscribe("$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#")
            self.assertEqual(device.get_twin(), {"desired": {"floor": 1, "gone": "soon", "$version": 2}, "reported": {"$version": 1}})

            self.service.update_twin(self.id, Twin(tags={"hidden": False}), "*")  # tells the device nothing
            self.desire(self.id, {"floor": 2, "gone": None})
            self.assertEqual(device.patches.get(timeout=20), {"floor": 2, "gone": None, "$version": 3})

            self.assertEqual(device.report({"floor": 2, "firmware": {"version": "1.2", "old": True}})[:2], (204, 2))
            self.assertEqual(device.report({"firmware": {"old": None}})[:2], (204, 3))
            reported = self.service.get_twin(self.id).properties.reported
            self.assertEqual((reported["floor"], reported["firmware"]), (2, {"version": "1.2"}))

            status, _, body = device.report({"a b": 1})
            self.assertEqual((status, json.loads(body)["errorCode"] // 1000), (400, 400))
            self.assertEqual(device.report({"still": "here"})[0], 204)

    def test_telemetry(self):
        self.register("telemetry")
        with self.device() as device:
            device.send('{"temperature": 21}', **{"$.mid": "m/1", "$.ct": "application/json", "$.ce": "utf-8", "alert": "a b/c&d"})
            device.send("plain")
            self.assertEqual(hub.executed(self.id)["messages"], 2)

    def test_keys(self):
        self.register("keys")
        self.device(self.service.get_device(self.id).authentication.symmetric_key.secondary_key).open().close()
        for wrong in (hub.WRONG_KEY, Service().create(self.id + "-other")):
            with self.assertRaises(Refused) as refused:
                self.device(wrong).open()
            self.assertIn(refused.exception.code, (4, 5))

    def test_a_disabled_device(self):
        self.register("disabled")
        with self.device() as device:
            self.service.put_device(models.Device(device_id=self.id, status="disabled"), "*")
            self.assertTrue(device.ended.wait(20), "the connection outlived the permission")
        with self.assertRaises(Refused) as refused:
            self.device().open()
        self.assertIn(refused.exception.code, (4, 5))


class OverWebSockets(OverMQTT):
    websockets = True


class Modules(Case):
    def test_has_methods_and_a_twin_of_its_own(self):
        self.service.create("carrier")
        path = "/devices/carrier/modules/engine"
        made = self.service.call("PUT", path, models.Module(device_id="carrier", module_id="engine"), "Module", "Module", ok=(200, 201))
        with Device("carrier", made.authentication.symmetric_key.primary_key, module_id="engine") as module:
            module.answer_methods(start=lambda payload: (200, {"started": payload}))
            result = self.service.call("POST", "/twins/carrier/modules/engine/methods", Method(method_name="start", payload=["now"]), "Method", "MethodResult")
            self.assertEqual(result.payload, {"started": ["now"]})
            module.subscribe("$iothub/twin/res/#")
            self.assertEqual(module.report({"rpm": 900})[0], 204)
        self.assertEqual(self.service.call("GET", "/twins/carrier/modules/engine", answer="Twin").properties.reported["rpm"], 900)
        self.assertNotIn("rpm", self.service.get_twin("carrier").properties.reported)


if __name__ == "__main__":
    unittest.main()

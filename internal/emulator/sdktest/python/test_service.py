"""The service client beyond the tutorial."""
import unittest

from msrest.exceptions import ClientRequestError, HttpOperationError

import hub
import models
from models import Authentication, Device, Method, SymmetricKey, Twin, TwinProperties, X509Thumbprint
from service import Service, signed_by


class Case(unittest.TestCase):
    def setUp(self):
        self.service = Service()
        self.addCleanup(hub.set_faults, [])

    def refused(self, status, name, call, *args, **kwargs):
        with self.assertRaises(HttpOperationError) as caught:
            call(*args, **kwargs)
        response = caught.exception.response
        self.assertEqual((response.status_code, response.headers["iothub-errorcode"]), (status, name), response.text)
        return response


class Registry(Case):
    def test_keys_that_are_left_out_are_made(self):
        for n, authentication in enumerate([
            Authentication(type="sas", symmetric_key=SymmetricKey(primary_key="", secondary_key="")),
            Authentication(type="sas", symmetric_key=SymmetricKey()),
            Authentication(symmetric_key=SymmetricKey()),
            None,
        ]):
            made = self.service.put_device(Device(device_id=f"py-{n}", authentication=authentication))
            self.assertEqual(made.authentication.type, "sas")
            self.assertEqual(len(made.authentication.symmetric_key.primary_key), 44)
            self.assertNotEqual(made.authentication.symmetric_key.primary_key, made.authentication.symmetric_key.secondary_key)

    def test_thumbprints(self):
        made = self.service.put_device(Device(device_id="py-x509", authentication=Authentication(
            type="selfSigned", x509_thumbprint=X509Thumbprint(primary_thumbprint="A" * 40, secondary_thumbprint="B" * 40))))
        self.assertEqual(made.authentication.x509_thumbprint.primary_thumbprint, "A" * 40)

    def test_life_of_a_device(self):
        self.service.create("py-life")
        self.refused(409, "DeviceAlreadyExists", self.service.put_device, Device(device_id="py-life"))
        read = self.service.get_device("py-life")
        off = self.service.put_device(Device(device_id="py-life", status="disabled", status_reason="moved"), read.etag)
        self.assertEqual((off.status, off.status_reason), ("disabled", "moved"))
        self.refused(412, "PreconditionFailed", self.service.put_device, Device(device_id="py-life"), read.etag)
        self.refused(412, "PreconditionFailed", self.service.delete_device, "py-life", read.etag)
        self.service.delete_device("py-life", off.etag)
        gone = self.refused(404, "DeviceNotFound", self.service.get_device, "py-life")
        self.assertRegex(gone.json()["Message"], "^ErrorCode:DeviceNotFound;")

    def test_modules(self):
        self.service.create("py-gateway")
        path = "/devices/py-gateway/modules/camera"
        made = self.service.call("PUT", path, models.Module(device_id="py-gateway", module_id="camera", managed_by="me"), "Module", "Module", ok=(200, 201))
        self.assertEqual((made.module_id, made.managed_by), ("camera", "me"))
        self.assertEqual(len(made.authentication.symmetric_key.primary_key), 44)
        listed = self.service.call("GET", "/devices/py-gateway/modules", answer="[Module]")
        self.assertEqual([m.module_id for m in listed], ["camera"])
        twin = self.service.call("PATCH", "/twins/py-gateway/modules/camera", Twin(properties=TwinProperties(desired={"zoom": 2})), "Twin", "Twin", {"If-Match": '"*"'})
        self.assertEqual(twin.properties.desired["zoom"], 2)
        self.service.call("DELETE", path, headers={"If-Match": '"*"'}, ok=(204,))

    def test_bulk(self):
        def bulk(*devices, ok=(200,)):
            self.service.call("POST", "/devices", list(devices), "[object]", ok=ok)
            return self.service.last.json()

        def done(*devices):
            self.assertEqual(bulk(*devices), {"isSuccessful": True, "errors": [], "warnings": []})

        def failed(code, device):
            result = bulk(device, ok=(400,))
            self.assertEqual((result["isSuccessful"], [e["errorCode"] for e in result["errors"]]), (False, [code]))

        one = {"id": "py-bulk"}
        done(dict(one, importMode="create", tags={"n": 1}), {"id": "py-bulk-2", "importMode": "create"})
        failed(409001, dict(one, importMode="create"))
        old = self.service.get_device("py-bulk").etag
        done(dict(one, importMode="update", status="disabled"))
        self.assertEqual(self.service.get_device("py-bulk").status, "disabled")
        failed(412001, dict(one, importMode="updateIfMatchETag", eTag=old, status="enabled"))
        done(dict(one, importMode="updateIfMatchETag", eTag=self.service.get_device("py-bulk").etag, status="enabled"))
        before = self.service.get_twin("py-bulk").etag
        done(dict(one, importMode="updateTwin", tags={"n": 2}, properties={"desired": {"floor": 3}}))
        failed(412001, dict(one, importMode="updateTwinIfMatchETag", twinETag=before, tags={"n": 3}))
        done(dict(one, importMode="updateTwinIfMatchETag", twinETag=self.service.get_twin("py-bulk").etag, tags={"n": 4}))
        twin = self.service.get_twin("py-bulk")
        self.assertEqual((twin.tags["n"], twin.properties.desired["floor"]), (4, 3))
        failed(412001, dict(one, importMode="deleteIfMatchETag", eTag=old))
        done(dict(one, importMode="deleteIfMatchETag", eTag=self.service.get_device("py-bulk").etag), {"id": "py-bulk-2", "importMode": "delete"})
        self.refused(404, "DeviceNotFound", self.service.get_device, "py-bulk")

    def test_list_and_statistics(self):
        devices = self.service.call("GET", "/devices", params={"top": 1000}, answer="[Device]")
        self.assertGreaterEqual(len(devices), 28)
        self.assertTrue(all(d.connection_state_updated_time is not None for d in devices))
        counts = self.service.call("GET", "/statistics/devices", answer="RegistryStatistics")
        self.assertEqual(counts.total_device_count, counts.enabled_device_count + counts.disabled_device_count)

    def test_a_wrong_key(self):
        stranger = Service(signed_by({"SharedAccessKey": hub.WRONG_KEY, "SharedAccessKeyName": "iothubowner"}))
        self.refused(401, "IotHubUnauthorizedAccess", stranger.get_device, "door-001")
        self.refused(401, "IotHubUnauthorizedAccess", Service(signed_by(hub.POLICIES["service"])).get_device, "door-001")


class Twins(Case):
    def test_pages(self):
        seen, more, pages = [], None, 0
        while pages == 0 or more:
            rows, more = self.service.query("SELECT * FROM devices WHERE STARTSWITH(deviceId, 'door-')", 10, more)
            seen += [twin.device_id for twin in rows]
            pages += 1
        self.assertEqual((pages, len(seen), len(set(seen))), (3, 25, 25))

    def test_null_removes_and_values_keep_their_types(self):
        before = self.service.get_twin("door-002")
        self.assertEqual((before.tags, before.properties.desired["locked"]), ({"building": 43, "floor": 1}, True))
        change = {"locked": None, "list": [1, {"a": "b"}], "deep": {"er": 1.5}, "text": "Tür · 鍵"}
        after = self.service.update_twin("door-002", Twin(tags={"floor": None, "name": "x"}, properties=TwinProperties(desired=change)), before.etag)
        self.assertEqual(after.tags, {"building": 43, "name": "x"})
        kept = {k: v for k, v in after.properties.desired.items() if not k.startswith("$")}
        self.assertEqual(kept, {"list": [1, {"a": "b"}], "deep": {"er": 1.5}, "text": "Tür · 鍵"})
        self.assertGreater(after.version, before.version)

    def test_replace(self):
        twin = self.service.replace_twin("door-003", Twin(tags={"only": 1}, properties=TwinProperties(desired={"left": True})), "*")
        self.assertEqual(twin.tags, {"only": 1})
        self.assertNotIn("locked", twin.properties.desired)

    def test_what_no_twin_holds(self):
        for desired in ({"a b": 1}, {"list": [None]}, {"big": 2 ** 53}):
            self.refused(400, "ArgumentInvalid", self.service.update_twin, "door-004", Twin(properties=TwinProperties(desired=desired)), "*")

    def test_a_query_that_makes_no_sense(self):
        self.refused(400, "ArgumentInvalid", self.service.query, "SELECT * FROM")


class Methods(Case):
    def test_payloads(self):
        for payload in ({"lockTime": "10m", "list": [1, None]}, '{"lockTime":"10m"}', "", 42.5, 0, True, False, [1, "two", {}], {}):
            result = self.service.invoke("door-005", Method(method_name="echo", payload=payload, response_timeout_in_seconds=30, connect_timeout_in_seconds=15))
            self.assertEqual((result.status, result.payload), (200, payload))

    def test_no_payload(self):
        self.assertIsNone(self.service.invoke("door-005", Method(method_name="echo")).payload)

    def test_a_device_that_says_no(self):
        result = self.service.invoke("door-005", Method(method_name="refuse"))
        self.assertEqual((result.status, result.payload), (409, "open"))

    def test_nobody_is_there(self):
        unknown = self.refused(404, "DeviceNotFound", self.service.invoke, "nobody", Method(method_name="echo"))
        self.assertIn('"errorCode":404001', unknown.json()["Message"])
        offline = self.refused(404, "DeviceNotOnline", self.service.invoke, "gone", Method(method_name="echo"))
        self.assertIn('"errorCode":404103', offline.json()["Message"])

    def test_a_module(self):
        result = self.service.call("POST", "/twins/hall/modules/camera/methods", Method(method_name="echo", payload=[1]), "Method", "MethodResult")
        self.assertEqual((result.status, result.payload), (200, [1]))


class Repeats(Case):
    """msrest sends again what was answered with 408 or 5xx, POST included. A fault counts the calls of a
    device from the start of the hub, so each test has a device of its own."""

    def test_until_the_hub_can(self):
        hub.set_faults([{"fault": "unavailable", "operations": ["method"], "devices": ["door-010"], "calls": "1-3"}])
        before = hub.executed("door-010")["methods"]
        self.assertEqual(self.service.invoke("door-010", Method(method_name="echo", payload="again")).payload, "again")
        self.assertEqual(hub.executed("door-010")["methods"], before + 1)

    def test_three_times_and_no_more(self):
        hub.set_faults([{"fault": "unavailable", "operations": ["method"], "devices": ["door-011"], "calls": "1-4"}])
        before = hub.executed("door-011")["methods"]
        with self.assertRaisesRegex(ClientRequestError, "too many 503 error responses"):
            self.service.invoke("door-011", Method(method_name="echo"))
        self.assertEqual(hub.executed("door-011")["methods"], before)

    def test_a_method_whose_answer_gets_lost_runs_again(self):
        hub.set_faults([{"fault": "badGateway", "operations": ["method"], "devices": ["door-012"], "calls": "1-3"}])
        before = hub.executed("door-012")["methods"]
        self.assertEqual(self.service.invoke("door-012", Method(method_name="lockDoor")).status, 200)
        self.assertEqual(hub.executed("door-012")["methods"], before + 4)

    def test_a_patch_whose_answer_gets_lost_meets_its_own_etag(self):
        hub.set_faults([{"fault": "badGateway", "operations": ["twinWrite"], "devices": ["door-013"], "calls": "1"}])
        before = self.service.get_twin("door-013")
        self.refused(412, "PreconditionFailed", self.service.update_twin, "door-013", Twin(tags={"once": True}), before.etag)
        self.assertIs(self.service.get_twin("door-013").tags["once"], True)

    def test_not_when_the_caller_is_wrong(self):
        hub.set_faults([{"fault": "throttled", "operations": ["method"], "devices": ["door-014"], "calls": "1"}])
        self.refused(429, "ThrottlingBacklogTimeout", self.service.invoke, "door-014", Method(method_name="echo"))


if __name__ == "__main__":
    unittest.main()

"""Microsoft's service client beyond the tutorial."""
import unittest

from azure.iot.hub.models import CloudToDeviceMethod, ExportImportDevice, PropertyContainer, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import ClientRequestError, HttpOperationError

import hub


class Case(unittest.TestCase):
    def setUp(self):
        self.service = hub.registry()
        self.addCleanup(hub.set_faults)

    def refused(self, status, name, call, *args):
        with self.assertRaises(HttpOperationError) as caught:
            call(*args)
        response = caught.exception.response
        self.assertEqual((response.status_code, response.headers["iothub-errorcode"]), (status, name), response.text)
        return response

    def create(self, device_id):
        return self.service.create_device_with_sas(device_id, "", "", "enabled")

    def invoke(self, device_id, name="echo", **more):
        return self.service.invoke_device_method(device_id, CloudToDeviceMethod(method_name=name, **more))


class Registry(Case):
    def test_keys_that_are_left_out_are_made(self):
        for n, key in enumerate(("", None)):
            made = self.service.create_device_with_sas(f"py-{n}", key, key, "enabled").authentication
            self.assertEqual((made.type, len(made.symmetric_key.primary_key)), ("sas", 44))
            self.assertNotEqual(made.symmetric_key.primary_key, made.symmetric_key.secondary_key)

    def test_other_ways_to_prove_who_one_is(self):
        made = self.service.create_device_with_x509("py-x509", "A" * 40, "B" * 40, "enabled").authentication
        self.assertEqual((made.type, made.x509_thumbprint.primary_thumbprint), ("selfSigned", "A" * 40))
        made = self.service.create_device_with_certificate_authority("py-ca", "disabled")
        self.assertEqual((made.authentication.type, made.status), ("certificateAuthority", "disabled"))

    def test_life_of_a_device(self):
        keys = self.create("py-life").authentication.symmetric_key
        self.refused(409, "DeviceAlreadyExists", self.create, "py-life")
        read = self.service.get_device("py-life")
        update = lambda etag, status: self.service.update_device_with_sas(  # noqa: E731
            "py-life", etag, keys.primary_key, keys.secondary_key, status, status_reason="moved")
        off = update(read.etag, "disabled")
        self.assertEqual((off.status, off.status_reason), ("disabled", "moved"))
        self.refused(412, "PreconditionFailed", update, read.etag, "enabled")
        self.refused(412, "PreconditionFailed", self.service.delete_device, "py-life", read.etag)
        self.service.delete_device("py-life", off.etag)
        gone = self.refused(404, "DeviceNotFound", self.service.get_device, "py-life")
        self.assertRegex(gone.json()["Message"], "^ErrorCode:DeviceNotFound;")

    def test_modules(self):
        self.create("py-gateway")
        made = self.service.create_module_with_sas("py-gateway", "camera", "me", "", "")
        self.assertEqual((made.module_id, made.managed_by, len(made.authentication.symmetric_key.primary_key)), ("camera", "me", 44))
        self.assertEqual([m.module_id for m in self.service.get_modules("py-gateway")], ["camera"])
        self.assertEqual(self.service.get_module("py-gateway", "camera").etag, made.etag)
        twin = self.service.update_module_twin("py-gateway", "camera", Twin(properties=TwinProperties(desired={"zoom": 2})))
        self.assertEqual(twin.properties.desired["zoom"], 2)
        stale = Twin(properties=TwinProperties(desired={"zoom": 3}))
        self.service.replace_module_twin("py-gateway", "camera", stale, twin.etag)
        self.refused(412, "PreconditionFailed", self.service.update_module_twin, "py-gateway", "camera", stale, twin.etag)
        self.service.delete_module("py-gateway", "camera")
        self.refused(404, "ModuleNotFound", self.service.get_module, "py-gateway", "camera")

    def bulk(self, mode, **more):
        return self.service.bulk_create_or_update_devices([ExportImportDevice(id="py-bulk", import_mode=mode, **more)])

    def done(self, mode, **more):
        result = self.bulk(mode, **more)
        self.assertEqual((result.is_successful, result.errors, result.warnings), (True, [], []))

    def fails(self, mode, **more):
        # A list with a failure answers 400, which the client takes for a result.
        result = self.bulk(mode, **more)
        self.assertEqual((result.is_successful, len(result.errors)), (False, 1))
        return result.errors[0]

    def test_bulk(self):
        self.done("create", tags={"n": 1})
        self.assertEqual(self.fails("create").device_id, "py-bulk")
        old = self.service.get_device("py-bulk").etag
        self.done("update", status="disabled")
        self.assertEqual(self.service.get_device("py-bulk").status, "disabled")
        self.fails("updateIfMatchETag", e_tag=old, status="enabled")
        self.done("updateIfMatchETag", e_tag=self.service.get_device("py-bulk").etag, status="enabled")
        before = self.service.get_twin("py-bulk").etag
        self.done("updateTwin", tags={"n": 2}, properties=PropertyContainer(desired={"floor": 3}))
        self.fails("updateTwinIfMatchETag", twin_etag=before, tags={"n": 3})
        self.done("updateTwinIfMatchETag", twin_etag=self.service.get_twin("py-bulk").etag, tags={"n": 4})
        twin = self.service.get_twin("py-bulk")
        self.assertEqual((twin.tags["n"], twin.properties.desired["floor"]), (4, 3))
        self.fails("deleteIfMatchETag", e_tag=old)
        self.done("delete")
        self.refused(404, "DeviceNotFound", self.service.get_device, "py-bulk")

    def test_list_and_statistics(self):
        devices = self.service.get_devices(1000)
        self.assertGreaterEqual(len(devices), 28)
        self.assertTrue(all(d.connection_state_updated_time is not None for d in devices))
        self.assertEqual(len(self.service.get_devices(2)), 2)
        counts = self.service.get_device_registry_statistics()
        self.assertEqual(counts.total_device_count, counts.enabled_device_count + counts.disabled_device_count)
        self.assertGreaterEqual(self.service.get_service_statistics().connected_device_count, 25)

    def test_who_may_not(self):
        for connection in (hub.connection_string(key=hub.WRONG_KEY), hub.connection_string("service")):
            self.refused(401, "IotHubUnauthorizedAccess", hub.registry(connection).get_device, "door-001")


class Twins(Case):
    def query(self, text, more=None, page=None):
        return self.service.query_iot_hub(QuerySpecification(query=text), more, page)

    def test_pages(self):
        seen, result = [], None
        while result is None or result.continuation_token:
            result = self.query("SELECT * FROM devices WHERE STARTSWITH(deviceId, 'door-')", result and result.continuation_token, 10)
            self.assertEqual(result.type.lower(), "twin")
            seen.append([twin.device_id for twin in result.items])
        self.assertEqual([len(page) for page in seen], [10, 10, 5])
        self.assertEqual(len(set(sum(seen, []))), 25)

    def test_rows_that_are_no_twins(self):
        # The client makes twins of all rows and keeps what a twin has not.
        rows = self.query("SELECT COUNT() AS n FROM devices WHERE STARTSWITH(deviceId, 'door-')")
        self.assertEqual((rows.type.lower(), rows.items[0].additional_properties["n"]), ("raw", 25))

    def test_null_removes_and_values_keep_their_types(self):
        before = self.service.get_twin("door-002")
        self.assertEqual((before.tags, before.properties.desired["locked"]), ({"building": 43, "floor": 1}, True))
        change = {"locked": None, "list": [1, {"a": "b"}], "deep": {"er": 1.5}, "text": "Tür · 鍵"}
        after = self.service.update_twin("door-002", Twin(tags={"floor": None, "name": "x"}, properties=TwinProperties(desired=change)), before.etag)
        self.assertEqual(after.tags, {"building": 43, "name": "x"})
        kept = {k: v for k, v in after.properties.desired.items() if not k.startswith("$")}
        self.assertEqual(kept, {"list": [1, {"a": "b"}], "deep": {"er": 1.5}, "text": "Tür · 鍵"})
        self.assertGreater(after.version, before.version)
        self.refused(412, "PreconditionFailed", self.service.update_twin, "door-002", Twin(tags={"name": "y"}), before.etag)
        self.refused(412, "PreconditionFailed", self.service.replace_twin, "door-002", Twin(tags={"name": "y"}), before.etag)

    def test_replace(self):
        twin = self.service.replace_twin("door-003", Twin(tags={"only": 1}, properties=TwinProperties(desired={"left": True})))
        self.assertEqual(twin.tags, {"only": 1})
        self.assertNotIn("locked", twin.properties.desired)

    def test_what_no_twin_holds(self):
        for desired in ({"a b": 1}, {"list": [None]}, {"big": 2 ** 53}):
            self.refused(400, "ArgumentInvalid", self.service.update_twin, "door-004", Twin(properties=TwinProperties(desired=desired)))

    def test_a_query_that_makes_no_sense(self):
        self.refused(400, "ArgumentInvalid", self.query, "SELECT * FROM")


class Methods(Case):
    def test_payloads(self):
        for payload in ({"lockTime": "10m", "list": [1, None]}, '{"lockTime":"10m"}', "", 42.5, 0, True, False, [1, "two", {}], {}):
            for result in (
                self.invoke("door-005", payload=payload, response_timeout_in_seconds=30, connect_timeout_in_seconds=15),
                self.service.invoke_device_module_method("hall", "camera", CloudToDeviceMethod(method_name="echo", payload=payload)),
            ):
                self.assertEqual((result.status, result.payload), (200, payload))

    def test_no_payload(self):
        self.assertEqual(self.invoke("door-005").payload, "")  # the client sends an empty string

    def test_a_device_that_says_no(self):
        result = self.invoke("door-005", "refuse")
        self.assertEqual((result.status, result.payload), (409, "open"))

    def test_nobody_is_there(self):
        unknown = self.refused(404, "DeviceNotFound", self.invoke, "nobody")
        self.assertIn('"errorCode":404001', unknown.json()["Message"])
        offline = self.refused(404, "DeviceNotOnline", self.invoke, "gone")
        self.assertIn('"errorCode":404103', offline.json()["Message"])


class Repeats(Case):
    """What the client sends again. It means to send every request four times in
    all that got 408 or 5xx, POST included. With urllib3 2 its list of methods is
    overlooked, so that a POST goes out once; repeating() is what it means, and
    what it does with urllib3 1. Each test has a device of its own, as a fault
    counts the calls of a device."""

    def faulty(self, device_id, fault, operation, calls):
        hub.set_faults({"fault": fault, "operations": [operation], "devices": [device_id], "calls": calls})
        return hub.executed(device_id)["methods"]

    def repeating(self):
        policy = self.service.protocol.config.retry_policy.policy
        policy.allowed_methods = policy.method_whitelist

    def test_reads(self):
        self.faulty("door-009", "unavailable", "twinRead", "1-3")
        self.assertEqual(self.service.get_twin("door-009").device_id, "door-009")

    def test_a_method_goes_out_once(self):
        before = self.faulty("door-010", "unavailable", "method", "1")
        with self.assertRaises(HttpOperationError) as caught:
            self.invoke("door-010")
        self.assertEqual(caught.exception.response.status_code, 503)
        self.assertEqual(hub.executed("door-010")["methods"], before)

    def test_a_method_until_the_hub_can(self):
        self.repeating()
        before = self.faulty("door-011", "unavailable", "method", "1-3")
        self.assertEqual(self.invoke("door-011", payload="again").payload, "again")
        self.assertEqual(hub.executed("door-011")["methods"], before + 1)

    def test_three_times_and_no_more(self):
        self.repeating()
        before = self.faulty("door-012", "unavailable", "method", "1-4")
        with self.assertRaisesRegex(ClientRequestError, "too many 503 error responses"):
            self.invoke("door-012")
        self.assertEqual(hub.executed("door-012")["methods"], before)

    def test_a_method_whose_answer_gets_lost_runs_again(self):
        self.repeating()
        before = self.faulty("door-013", "badGateway", "method", "1-3")
        self.assertEqual(self.invoke("door-013", "lockDoor").status, 200)
        self.assertEqual(hub.executed("door-013")["methods"], before + 4)

    def test_a_patch_whose_answer_gets_lost_meets_its_own_etag(self):
        self.repeating()
        self.faulty("door-014", "badGateway", "twinWrite", "1")
        before = self.service.get_twin("door-014")
        self.refused(412, "PreconditionFailed", self.service.update_twin, "door-014", Twin(tags={"once": True}), before.etag)
        self.assertIs(self.service.get_twin("door-014").tags["once"], True)

    def test_not_when_the_caller_is_too_fast(self):
        self.repeating()
        self.faulty("door-015", "throttled", "method", "1")
        self.refused(429, "ThrottlingBacklogTimeout", self.invoke, "door-015")


if __name__ == "__main__":
    unittest.main()

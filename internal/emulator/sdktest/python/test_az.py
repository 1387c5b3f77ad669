"""The az CLI's ways; and its simulated device, whose user name ends in a stray None."""
import datetime
import unittest
import uuid

from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub.models import CloudToDeviceMethod, Device, JobRequest, QuerySpecification, Twin
from msrest.exceptions import HttpOperationError
from paho.mqtt import client as mqtt

import hub
from az import Az

hub.route()


class Case(unittest.TestCase):
    def setUp(self):
        self.az = Az()

    def schedule(self, condition, **job):
        job_id = str(uuid.uuid4())
        request = JobRequest(job_id=job_id, query_condition=condition, max_execution_time_in_seconds=3600, **job)
        return self.az.call("PUT", f"/jobs/v2/{job_id}", request, "JobRequest", "JobResponse")

    def show(self, job_id):
        job = self.az.call("GET", f"/jobs/v2/{job_id}", answer="JobResponse")
        if job.status == "unknown":
            job = self.az.call("GET", f"/jobs/{job_id}", answer="JobResponse")
        return job

    def ended(self, job_id):
        def over():
            job = self.show(job_id)
            return job if job.status in ("completed", "failed", "cancelled") else None
        return hub.eventually(f"job {job_id} ends", over)

    def all_succeeded(self, job, count):
        of = job.device_job_statistics
        self.assertEqual((job.status, of.device_count, of.succeeded_count, of.failed_count), ("completed", count, count, 0))


class Jobs(Case):
    def listed(self):
        """All jobs: those of the new kind by pages, then those of the old."""
        jobs, headers = [], {"x-ms-max-item-count": "2"}
        while True:
            jobs += self.az.call("GET", "/jobs/v2/query", answer="[JobResponse]", headers=headers)
            more = self.az.last.headers.get("x-ms-continuation")
            if not more:
                break
            headers["x-ms-continuation"] = more
        self.assertEqual(self.az.call("GET", "/jobs", answer="[JobResponse]"), [])
        return {job.job_id: job for job in jobs}

    def test_method(self):
        made = self.schedule(
            "deviceId IN ['door-001', 'door-002']", type="scheduleDeviceMethod",
            cloud_to_device_method=CloudToDeviceMethod(method_name="lockDoor", payload={}, connect_timeout_in_seconds=30, response_timeout_in_seconds=30))
        self.assertEqual(made.type, "scheduleDeviceMethod")
        job = self.ended(made.job_id)
        self.all_succeeded(job, 2)
        self.assertLessEqual(job.start_time, job.end_time)
        self.assertEqual(hub.executed("door-002")["methods"], 1)

    def test_twin(self):
        # Without start time: now. The notes have spaces and commas.
        made = self.schedule("deviceId IN ['door-003', 'gone']", type="scheduleUpdateTwin", update_twin=Twin(etag="*", tags={"note": "spaces, and commas"}))
        self.all_succeeded(self.ended(made.job_id), 2)
        for device in ("door-003", "gone"):
            self.assertEqual(self.az.call("GET", f"/twins/{device}", answer="Twin").tags["note"], "spaces, and commas")

    def later(self, days, **tags):
        start = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        return self.schedule("deviceId = 'door-004'", type="scheduleUpdateTwin", update_twin=Twin(etag="*", tags=tags), start_time=start.isoformat()).job_id

    def test_cancel(self):
        job_id = self.later(2, never=1)
        self.assertEqual(self.show(job_id).status, "scheduled")  # az looks first
        self.az.call("POST", f"/jobs/v2/{job_id}/cancel")
        self.assertEqual(self.ended(job_id).status, "cancelled")
        with self.assertRaises(HttpOperationError):
            self.az.call("POST", f"/jobs/v2/{job_id}/cancel")

    def test_list(self):
        made = [self.later(3, n=n) for n in range(3)]
        jobs = self.listed()
        for job_id in made:
            self.assertEqual((jobs[job_id].status, jobs[job_id].type), ("scheduled", "scheduleUpdateTwin"))


class NumbersAsTexts(Case):
    """az passes on what was typed, so that numbers go out as texts."""

    def invoke(self, **body):
        return self.az.call("POST", "/twins/door-005/methods", {"methodName": "echo", "payload": "x", **body}, "object", "CloudToDeviceMethodResult")

    def test_timeouts_of_a_method(self):
        result = self.invoke(responseTimeoutInSeconds="30", connectTimeoutInSeconds="10")
        self.assertEqual((result.status, result.payload), (200, "x"))

    def test_out_of_range_is_refused_as_a_number_is(self):
        for timeout in ("301", "4", "-30", "30.5", "thirty", "", 301):
            with self.subTest(timeout=timeout), self.assertRaises(HttpOperationError) as caught:
                self.invoke(responseTimeoutInSeconds=timeout)
            self.assertEqual(caught.exception.response.status_code, 400)

    def test_a_job(self):
        job_id = str(uuid.uuid4())
        self.az.call("PUT", f"/jobs/v2/{job_id}", {
            "jobId": job_id, "type": "scheduleDeviceMethod", "queryCondition": "deviceId = 'door-005'", "maxExecutionTimeInSeconds": "300",
            "cloudToDeviceMethod": {"methodName": "echo", "payload": {}, "responseTimeoutInSeconds": "30", "connectTimeoutInSeconds": "0"},
        }, "object")
        self.all_succeeded(self.ended(job_id), 1)


class Devices(Case):
    def test_service(self):
        listed = self.az.call("GET", "/devices/", params={"top": 2}, answer="[Device]")
        self.assertEqual(len(listed), 2)
        rows = self.az.call("POST", "/devices/query", QuerySpecification(query="select * from devices where tags.building = 43"),
                            "QuerySpecification", "[Twin]", {"x-ms-max-item-count": "1000"})
        self.assertEqual(len(rows), 25)
        twin = self.az.call("PATCH", "/twins/door-006", Twin(tags={"by": "az"}), "Twin", "Twin", {"If-Match": "*"})
        self.assertEqual(twin.tags["by"], "az")
        twin = self.az.call("PUT", "/twins/door-006", twin, "Twin", "Twin", {"If-Match": "*"})
        self.assertEqual(twin.tags["by"], "az")
        device = self.az.call("GET", "/devices/door-006", answer="Device")
        device.status = "disabled"
        self.assertEqual(self.az.call("PUT", "/devices/door-006", device, "Device", "Device", {"If-Match": "*"}).status, "disabled")

    def test_simulated_device(self):
        made = self.az.call("PUT", "/devices/az-simulated", Device(device_id="az-simulated"), "Device", "Device")
        key = made.authentication.symmetric_key.primary_key
        credentials = mqtt.Client.username_pw_set
        mqtt.Client.username_pw_set = lambda self, username, password=None: credentials(self, username + "None", password)
        self.addCleanup(setattr, mqtt.Client, "username_pw_set", credentials)
        client = IoTHubDeviceClient.create_from_connection_string(
            hub.device_string("az-simulated", key), websockets=True, server_verification_cert=hub.CA)
        self.addCleanup(client.shutdown)
        client.on_method_request_received = lambda request: client.send_method_response(MethodResponse.create_from_method_request(
            request, 200, {"methodName": request.name, "methodRequestPayload": request.payload}))
        for n in range(3):
            client.send_message(f'{{"id": "{n}", "data": "Ping from Az CLI IoT Extension #{n}"}}')
        result = self.az.call("POST", "/twins/az-simulated/methods", CloudToDeviceMethod(method_name="anything", payload={"a": "b"}), "CloudToDeviceMethod", "CloudToDeviceMethodResult")
        self.assertEqual(result.payload, {"methodName": "anything", "methodRequestPayload": {"a": "b"}})
        client.patch_twin_reported_properties({"simulated": True})
        self.assertEqual(len(hub.telemetry("az-simulated")), 3)
        self.assertIs(self.az.call("GET", "/twins/az-simulated", answer="Twin").properties.reported["simulated"], True)


if __name__ == "__main__":
    unittest.main()

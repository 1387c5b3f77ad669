"""The az CLI's ways: the same msrest below, other tokens, headers and habits
above; and its simulated device, whose user name ends in a stray None."""
import datetime
import time
import unittest
import uuid
from urllib.parse import quote

from msrest.exceptions import HttpOperationError

import hub
import models
from device import Device
from models import JobRequest, Method, Twin
from service import Service

ROWS = {
    "completed": {"succeeded_count": 2, "failed_count": 0, "pending_count": 0, "running_count": 0, "device_count": 2},
}


def az_token():
    """With its fields in another order, and no slash escaped in the signature."""
    expiry = int(time.time()) + 3600
    sig = hub.signature(hub.SERVICE_HOST, hub.OWNER["SharedAccessKey"], expiry)
    return (f"SharedAccessSignature sig={quote(sig, safe='/')}&se={expiry}"
            f"&skn={hub.OWNER['SharedAccessKeyName']}&sr={quote(hub.SERVICE_HOST, safe='')}")


class Az(unittest.TestCase):
    def setUp(self):
        self.service = Service(az_token, "IoTPlatformCliExtension/0.23", {
            "x-ms-client-request-id": str(uuid.uuid1()), "accept-language": "en-US",
        })

    def schedule(self, condition, **job):
        job_id = str(uuid.uuid4())
        request = JobRequest(job_id=job_id, query_condition=condition, max_execution_time_in_seconds=3600, **job)
        return self.service.call("PUT", f"/jobs/v2/{job_id}", request, "JobRequest", "JobResponse")

    def show(self, job_id):
        job = self.service.call("GET", f"/jobs/v2/{job_id}", answer="JobResponse")
        if job.status == "unknown":
            job = self.service.call("GET", f"/jobs/{job_id}", answer="JobResponse")
        return job

    def ended(self, job_id):
        def over():
            job = self.show(job_id)
            return job if job.status in ("completed", "failed", "cancelled") else None
        return hub.eventually(f"job {job_id} ends", over)

    def listed(self):
        """All jobs: those of the new kind by pages, then those of the old."""
        jobs, headers = [], {"x-ms-max-item-count": "2"}
        while True:
            jobs += self.service.call("GET", "/jobs/v2/query", answer="[JobResponse]", headers=headers)
            more = self.service.last.headers.get("x-ms-continuation")
            if not more:
                break
            headers["x-ms-continuation"] = more
        self.assertEqual(self.service.call("GET", "/jobs", answer="[JobResponse]"), [])
        return {job.job_id: job for job in jobs}

    def test_job_with_a_method(self):
        made = self.schedule(
            "deviceId IN ['door-001', 'door-002']", type="scheduleDeviceMethod",
            cloud_to_device_method=Method(method_name="lockDoor", payload={}, connect_timeout_in_seconds=30, response_timeout_in_seconds=30))
        self.assertEqual(made.type, "scheduleDeviceMethod")
        job = self.ended(made.job_id)
        self.assertEqual(job.status, "completed")
        self.assertEqual(vars_of(job.device_job_statistics), ROWS["completed"])
        self.assertLessEqual(job.start_time, job.end_time)
        self.assertEqual(hub.executed("door-002")["methods"], 1)

    def test_job_with_a_twin(self):
        # Without start time: now. The notes have spaces and commas.
        made = self.schedule("deviceId IN ['door-003', 'gone']", type="scheduleUpdateTwin", update_twin=Twin(etag="*", tags={"note": "spaces, and commas"}))
        self.assertEqual(vars_of(self.ended(made.job_id).device_job_statistics), ROWS["completed"])
        for device in ("door-003", "gone"):
            self.assertEqual(self.service.get_twin(device).tags["note"], "spaces, and commas")

    def test_cancel(self):
        later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)
        made = self.schedule("deviceId = 'door-004'", type="scheduleUpdateTwin", update_twin=Twin(etag="*", tags={"never": 1}), start_time=later)
        self.assertEqual(self.show(made.job_id).status, "scheduled")  # az looks first
        self.service.call("POST", f"/jobs/v2/{made.job_id}/cancel")
        self.assertEqual(self.ended(made.job_id).status, "cancelled")
        with self.assertRaises(HttpOperationError):
            self.service.call("POST", f"/jobs/v2/{made.job_id}/cancel")

    def test_list(self):
        later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=3)
        made = [
            self.schedule("deviceId = 'door-005'", type="scheduleUpdateTwin", update_twin=Twin(etag="*", tags={"n": n}), start_time=later).job_id
            for n in range(3)
        ]
        jobs = self.listed()
        for job_id in made:
            self.assertEqual((jobs[job_id].status, jobs[job_id].type), ("scheduled", "scheduleUpdateTwin"))

    def test_devices(self):
        listed = self.service.call("GET", "/devices/", params={"top": 2}, answer="[Device]")
        self.assertEqual(len(listed), 2)
        rows, _ = self.service.query("select * from devices where tags.building = 43", 1000)
        self.assertEqual(len(rows), 25)
        twin = self.service.call("PATCH", "/twins/door-006", Twin(tags={"by": "az"}), "Twin", "Twin", {"If-Match": "*"})
        self.assertEqual(twin.tags["by"], "az")
        twin = self.service.call("PUT", "/twins/door-006", twin, "Twin", "Twin", {"If-Match": "*"})
        self.assertEqual(twin.tags["by"], "az")
        device = self.service.get_device("door-006")
        device.status = "disabled"
        self.assertEqual(self.service.call("PUT", "/devices/door-006", device, "Device", "Device", {"If-Match": "*"}).status, "disabled")

    def test_simulated_device(self):
        made = self.service.put_device(models.Device(device_id="az-simulated"))
        with Device("az-simulated", made.authentication.symmetric_key.primary_key, websockets=True, stray="None") as device:
            device.answer_methods(anything=lambda payload: (200, {"methodName": "anything", "methodRequestPayload": payload}))
            device.subscribe("$iothub/twin/PATCH/properties/desired/#", "$iothub/twin/res/#", "devices/az-simulated/messages/devicebound/#")
            for n in range(3):
                device.send(f'{{"id": "{n}", "data": "Ping from Az CLI IoT Extension #{n}"}}')
            result = self.service.invoke("az-simulated", Method(method_name="anything", payload={"a": "b"}))
            self.assertEqual(result.payload, {"methodName": "anything", "methodRequestPayload": {"a": "b"}})
            self.assertEqual(device.report({"simulated": True})[0], 204)
        self.assertEqual(hub.executed("az-simulated")["messages"], 3)
        self.assertIs(self.service.get_twin("az-simulated").properties.reported["simulated"], True)


def vars_of(statistics):
    """The model's attributes, without what msrest keeps beside them."""
    return {name: getattr(statistics, name) for name in statistics._attribute_map}


if __name__ == "__main__":
    unittest.main()

"""Microsoft's client for the hub's own jobs."""
import datetime
import unittest
import uuid

from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, Twin
from msrest.exceptions import HttpOperationError

import hub


class Jobs(unittest.TestCase):
    def setUp(self):
        self.jobs, self.service = hub.jobs(), hub.registry()

    def schedule(self, condition, starts_in=datetime.timedelta(), **job):
        job_id = str(uuid.uuid4())
        start = datetime.datetime.now(datetime.timezone.utc) + starts_in
        return self.jobs.create_scheduled_job(job_id, JobRequest(
            job_id=job_id, query_condition=condition, start_time=start.isoformat(), max_execution_time_in_seconds=60, **job)).job_id

    def ended(self, job_id):
        def over():
            job = self.jobs.get_scheduled_job(job_id)
            return job if job.status in ("completed", "failed", "cancelled") else None
        return hub.eventually(f"job {job_id} ends", over)

    def counts(self, job):
        of = job.device_job_statistics
        return of.device_count, of.succeeded_count, of.failed_count, of.running_count, of.pending_count

    def test_method(self):
        job = self.ended(self.schedule(
            "deviceId IN ['door-006', 'door-007']", type="scheduleDeviceMethod",
            cloud_to_device_method=CloudToDeviceMethod(method_name="lockDoor", payload={"a": [1]}, response_timeout_in_seconds=30)))
        self.assertEqual((job.status, job.type, self.counts(job)), ("completed", "scheduleDeviceMethod", (2, 2, 0, 0, 0)))
        self.assertLessEqual(job.start_time, job.end_time)
        self.assertEqual(hub.executed("door-007")["methods"], 1)

    def test_twin(self):
        job = self.ended(self.schedule("deviceId IN ['door-008', 'gone']", type="scheduleUpdateTwin", update_twin=Twin(etag="*", tags={"note": "by a job"})))
        self.assertEqual((job.status, self.counts(job)), ("completed", (2, 2, 0, 0, 0)))
        for device in ("door-008", "gone"):
            self.assertEqual(self.service.get_twin(device).tags["note"], "by a job")

    def test_cancel(self):
        later = datetime.timedelta(days=2)
        job_id = self.schedule("deviceId = 'door-009'", later, type="scheduleUpdateTwin", update_twin=Twin(etag="*", tags={"never": 1}))
        self.assertEqual(self.jobs.get_scheduled_job(job_id).status, "scheduled")
        self.jobs.cancel_scheduled_job(job_id)
        self.assertEqual(self.ended(job_id).status, "cancelled")
        with self.assertRaises(HttpOperationError):
            self.jobs.cancel_scheduled_job(job_id)
        self.assertIsNone((self.service.get_twin("door-009").tags or {}).get("never"))

    def test_a_job_that_nobody_made(self):
        with self.assertRaises(HttpOperationError) as caught:
            self.jobs.get_scheduled_job("nobody-made-this")
        self.assertEqual(caught.exception.response.status_code, 404)


if __name__ == "__main__":
    unittest.main()

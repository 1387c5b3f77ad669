'use strict';
const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { describe, it } = require('node:test');
const { jobs, registry, advance, executed, eventually, pages, refused } = require('./hub.cjs');

const ended = (id) => eventually(`job ${id} ends`, async () => {
  const { jobStatus } = await jobs.getJob(id);
  return ['completed', 'failed', 'cancelled'].includes(jobStatus.status) && jobStatus;
});

const rowsOf = async (id) => {
  const { rows, sizes } = await pages(registry.createQuery(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${id}'`, 10));
  assert.ok(sizes.slice(0, -1).every((n) => n === 10), `pages of ${sizes}`);
  return rows.sort((a, b) => (a.deviceId < b.deviceId ? -1 : 1));
};

const inAnHour = () => new Date(Date.now() + 3600 * 1000);

describe('jobs', () => {
  it('call a method on every device of the condition', async () => {
    const id = randomUUID();
    const { jobStatus: accepted } = await jobs.scheduleDeviceMethod(id, "STARTSWITH(deviceId, 'door-')", { methodName: 'lockDoor', payload: { lockTime: '10m' } }, new Date(), 300);
    assert.equal(accepted.jobId, id);
    assert.equal(accepted.type, 'scheduleDeviceMethod');

    const job = await ended(id);
    assert.equal(job.status, 'completed');
    assert.equal(job.queryCondition, "STARTSWITH(deviceId, 'door-')");
    assert.equal(job.cloudToDeviceMethod.methodName, 'lockDoor');
    assert.equal(job.maxExecutionTimeInSeconds, 300);
    assert.deepEqual(job.deviceJobStatistics, { deviceCount: 25, failedCount: 0, succeededCount: 25, runningCount: 0, pendingCount: 0 });
    assert.ok(new Date(job.startTime) <= new Date(job.endTime), `${job.startTime} to ${job.endTime}`);

    const rows = await rowsOf(id);
    assert.equal(rows.length, 25);
    assert.equal(rows[0].deviceId, 'door-001');
    assert.equal(rows[0].jobType, 'scheduleDeviceMethod');
    assert.equal(rows[0].status, 'completed');
    assert.deepEqual(rows[24].outcome, { deviceMethodResponse: { status: 200, payload: { door: 'door-025' } } });
    assert.equal((await executed('door-025')).methods, 1);
  });

  it('patch the twin of every device of the condition', async () => {
    const id = randomUUID();
    await jobs.scheduleTwinUpdate(id, "deviceId IN ['door-001', 'door-002', 'gone']", { etag: '*', tags: { building: 44 }, properties: { desired: { floor: 3 } } }, new Date(), 300);
    const job = await ended(id);
    assert.equal(job.status, 'completed');
    assert.equal(job.updateTwin.etag, '*');
    assert.deepEqual(job.deviceJobStatistics, { deviceCount: 3, failedCount: 0, succeededCount: 3, runningCount: 0, pendingCount: 0 });
    for (const device of ['door-001', 'door-002', 'gone']) {
      const { responseBody: twin } = await registry.getTwin(device);
      assert.equal(twin.tags.building, 44);
      assert.equal(twin.properties.desired.floor, 3);
    }
    assert.deepEqual((await rowsOf(id)).map((r) => [r.deviceId, r.status, r.error]), [['door-001', 'completed', undefined], ['door-002', 'completed', undefined], ['gone', 'completed', undefined]]);
  });

  it("do not fail for what devices answer", async () => {
    const id = randomUUID();
    await jobs.scheduleDeviceMethod(id, "deviceId = 'door-003'", { methodName: 'refuse' }, new Date(), 60);
    const job = await ended(id);
    assert.equal(job.deviceJobStatistics.succeededCount, 1);
    const [row] = await rowsOf(id);
    assert.equal(row.status, 'completed');
    assert.deepEqual(row.outcome.deviceMethodResponse, { status: 409, payload: 'open' });
  });

  it('whose condition matches nothing complete', async () => {
    const id = randomUUID();
    await jobs.scheduleTwinUpdate(id, "tags.building = 'nowhere'", { etag: '*', tags: { a: 1 } }, new Date(), 60);
    const job = await ended(id);
    assert.equal(job.status, 'completed');
    assert.equal(job.deviceJobStatistics.deviceCount, 0);
    assert.deepEqual(await rowsOf(id), []);
  });

  it('complete though no device answers, and say so of each', async () => {
    const id = randomUUID();
    const calls = async () => (await executed('door-009')).methods + (await executed('door-010')).methods;
    const before = await calls();
    await jobs.scheduleDeviceMethod(id, "deviceId IN ['door-009', 'door-010']", { methodName: 'hang', responseTimeoutInSeconds: 30 }, new Date(), 300);
    await eventually('both have the call', async () => await calls() === before + 2);
    await advance('31s');
    const job = await ended(id);
    assert.equal(job.status, 'completed');
    assert.deepEqual(job.deviceJobStatistics, { deviceCount: 2, failedCount: 2, succeededCount: 0, runningCount: 0, pendingCount: 0 });
    assert.deepEqual((await rowsOf(id)).map((r) => [r.deviceId, r.status, typeof r.error.code]), [['door-009', 'failed', 'string'], ['door-010', 'failed', 'string']]);
  });

  it('wait for devices that are offline until their time is up', async () => {
    const id = randomUUID();
    await jobs.scheduleDeviceMethod(id, "deviceId IN ['gone', 'hall']", { methodName: 'lockDoor' }, new Date(), 120);
    await eventually('the one that is online is done', async () => (await jobs.getJob(id)).jobStatus.deviceJobStatistics?.succeededCount === 1);
    assert.equal((await jobs.getJob(id)).jobStatus.status, 'running');
    await advance('121s');
    const job = await ended(id);
    assert.deepEqual(job.deviceJobStatistics, { deviceCount: 2, failedCount: 1, succeededCount: 1, runningCount: 0, pendingCount: 0 });
    const [gone, hall] = await rowsOf(id);
    assert.equal(gone.status, 'failed');
    assert.equal(gone.error.code, 'JobRunPreconditionFailed');
    assert.equal(hall.status, 'completed');
  });

  it('start at their time, and not before', async () => {
    const id = randomUUID();
    await jobs.scheduleTwinUpdate(id, "deviceId = 'door-004'", { etag: '*', tags: { night: true } }, new Date(Date.now() + 24 * 3600 * 1000), 60);
    await eventually('the job is scheduled', async () => (await jobs.getJob(id)).jobStatus.status === 'scheduled');
    assert.equal((await registry.getTwin('door-004')).responseBody.tags.night, undefined);
    await advance('25h');
    assert.equal((await ended(id)).status, 'completed');
    assert.equal((await registry.getTwin('door-004')).responseBody.tags.night, true);
  });

  it('are cancelled before they start', async () => {
    const id = randomUUID();
    await jobs.scheduleDeviceMethod(id, "deviceId = 'door-005'", { methodName: 'lockDoor' }, new Date(Date.now() + 100 * 3600 * 1000), 60);
    const { jobStatus: answer } = await jobs.cancelJob(id);
    assert.equal(answer.jobId, id);
    assert.equal((await ended(id)).status, 'cancelled');
    await advance('101h');
    assert.equal((await jobs.getJob(id)).jobStatus.status, 'cancelled');
    assert.deepEqual(await rowsOf(id), []);
  });

  it('cannot be cancelled when they run or are over', async () => {
    const id = randomUUID();
    await jobs.scheduleDeviceMethod(id, "deviceId = 'gone'", { methodName: 'lockDoor' }, new Date(), 3600);
    await eventually('the job runs', async () => (await jobs.getJob(id)).jobStatus.status === 'running');
    const failure = await jobs.cancelJob(id).then(() => null, (err) => err);
    assert.equal(failure.response.headers['iothub-errorcode'], 'OperationNotAllowedInCurrentState');
    await advance('2h');
    await ended(id);
    const late = await jobs.cancelJob(id).then(() => null, (err) => err);
    assert.equal(late.response.headers['iothub-errorcode'], 'OperationNotAllowedInCurrentState');
  });

  it('that nobody scheduled are not found', async () => {
    await refused(jobs.getJob('never-was'), { error: 'Error', status: 404, name: 'JobNotFound' });
    await refused(jobs.cancelJob('never-was'), { error: 'Error', status: 404, name: 'JobNotFound' });
  });

  it('are listed by type and status, page by page', async () => {
    const ids = [];
    for (let i = 0; i < 3; i += 1) {
      ids.push(randomUUID());
      await jobs.scheduleTwinUpdate(ids[i], "deviceId = 'door-006'", { etag: '*', tags: { i } }, new Date(Date.now() + (200 + i) * 3600 * 1000), 60);
    }
    const { rows, sizes } = await pages(jobs.createQuery('scheduleUpdateTwin', 'scheduled', 2));
    assert.deepEqual(rows.map((j) => j.jobId).sort(), ids.sort());
    assert.ok(sizes.every((n) => n <= 2) && sizes.length >= 2, `${sizes}`);
    assert.ok(rows.every((j) => j.status === 'scheduled' && j.type === 'scheduleUpdateTwin'));
    assert.equal((await pages(jobs.createQuery('scheduleDeviceMethod', 'scheduled'))).rows.length, 0);
  });

  it('refuse an id that is taken', async () => {
    const id = randomUUID();
    await jobs.scheduleTwinUpdate(id, "deviceId = 'door-007'", { etag: '*', tags: { a: 1 } }, inAnHour(), 60);
    await refused(jobs.scheduleTwinUpdate(id, "deviceId = 'door-007'", { etag: '*', tags: { a: 2 } }, inAnHour(), 60), { error: 'DeviceAlreadyExistsError', status: 409, name: 'JobAlreadyExists' });
  });

  it('without start time are refused: the SDK sends null', async () => {
    await refused(jobs.scheduleTwinUpdate(randomUUID(), "deviceId = 'door-008'", { etag: '*', tags: { a: 1 } }), { error: 'ArgumentError', status: 400, name: 'ArgumentInvalid' });
  });

  it('whose patch has no etag are refused', async () => {
    const failure = await jobs.scheduleTwinUpdate(randomUUID(), "deviceId = 'door-008'", { tags: { a: 1 } }, new Date(), 60).then(() => null, (err) => err);
    assert.equal(failure.response.statusCode, 400);
  });
});

'use strict';
const { test } = require('node:test');
const { assert, registry, jobs, newId, register, online, refused, rows, until } = require('./hub');

const finished = (id) => until(
  () => jobs.getJob(id).then((r) => r.jobStatus),
  (job) => ['completed', 'failed', 'cancelled'].includes(job.status),
);

test('a twin job patches every device of its condition', async () => {
  const lot = newId('lot');
  const ids = [];
  for (let i = 0; i < 3; i += 1) {
    const { deviceId } = await register();
    ids.push(deviceId);
    await registry.updateTwin(deviceId, { tags: { lot } }, '*');
  }
  const id = newId('job');
  const { jobStatus: made } = await jobs.scheduleTwinUpdate(id, `tags.lot = '${lot}'`, { etag: '*', properties: { desired: { floor: 3 } } }, new Date(), 60);
  assert.equal(made.jobId, id);
  const job = await finished(id);
  assert.equal(job.status, 'completed');
  assert.equal(job.type, 'scheduleUpdateTwin');
  assert.deepEqual(
    [job.deviceJobStatistics.deviceCount, job.deviceJobStatistics.succeededCount, job.deviceJobStatistics.failedCount],
    [3, 3, 0],
  );
  for (const deviceId of ids) {
    assert.equal((await registry.getTwin(deviceId)).responseBody.properties.desired.floor, 3);
  }
});

test('a method job has a row for every device', async (t) => {
  const { id: device, client } = await online(t);
  client.onDeviceMethod('lockDoor', (request, response) => response.send(200, { locked: request.payload.lockTime }));
  const away = (await register()).deviceId;
  const id = newId('job');
  await jobs.scheduleDeviceMethod(
    id, `deviceId IN ['${device}', '${away}']`,
    { methodName: 'lockDoor', payload: { lockTime: '10m' }, responseTimeoutInSeconds: 10 }, new Date(), 5,
  );
  const job = await finished(id);
  assert.equal(job.type, 'scheduleDeviceMethod');
  assert.deepEqual(
    [job.deviceJobStatistics.deviceCount, job.deviceJobStatistics.succeededCount, job.deviceJobStatistics.failedCount],
    [2, 1, 1],
  );
  const { all } = await rows(registry.createQuery(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${id}'`));
  const row = Object.fromEntries(all.map((r) => [r.deviceId, r]));
  assert.equal(row[device].status, 'completed');
  assert.deepEqual(row[device].outcome.deviceMethodResponse, { status: 200, payload: { locked: '10m' } });
  assert.equal(row[away].status, 'failed');
  assert.ok(row[away].error.code);
});

test('a job that waits can be cancelled, one that ended cannot', async () => {
  const { deviceId } = await register();
  const id = newId('job');
  await jobs.scheduleTwinUpdate(id, `deviceId = '${deviceId}'`, { etag: '*', tags: { x: 1 } }, new Date(Date.now() + 3600_000), 60);
  await until(() => jobs.getJob(id).then((r) => r.jobStatus.status), (s) => s === 'scheduled');
  await jobs.cancelJob(id);
  assert.equal((await finished(id)).status, 'cancelled');
  assert.equal((await registry.getTwin(deviceId)).responseBody.tags?.x, undefined);
  await assert.rejects(jobs.cancelJob(id));
  await refused(jobs.getJob(newId('job')), 404, /JobNotFound/);
});

test('jobs are listed by type and status', async () => {
  const { deviceId } = await register();
  const id = newId('job');
  await jobs.scheduleTwinUpdate(id, `deviceId = '${deviceId}'`, { etag: '*', tags: { x: 1 } }, new Date(), 60);
  await finished(id);
  const { all } = await rows(jobs.createQuery('scheduleUpdateTwin', 'completed'));
  assert.ok(all.some((job) => job.jobId === id));
  assert.ok(all.every((job) => job.type === 'scheduleUpdateTwin' && job.status === 'completed'));
});
